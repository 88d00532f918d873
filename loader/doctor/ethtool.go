// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor

import (
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/loader/ethtool"
)

// readRings is `ethtool -g`.
func readRings(name string) Rings {
	value := struct { // struct ethtool_ringparam
		command, rxMax, rxMiniMax, rxJumboMax, txMax, rx, rxMini, rxJumbo, tx uint32
	}{command: unix.ETHTOOL_GRINGPARAM}
	if ethtool.Query(name, &value) != nil {
		return Rings{}
	}
	return Rings{Size: int(value.rx), Max: int(value.rxMax)}
}

// readChannels is `ethtool -l`.
func readChannels(name string) Channels {
	value := struct { // struct ethtool_channels
		command, rxMax, txMax, otherMax, combinedMax, rx, tx, other, combined uint32
	}{command: unix.ETHTOOL_GCHANNELS}
	if ethtool.Query(name, &value) != nil {
		return Channels{}
	}
	return Channels{Count: int(value.rx + value.combined), Max: int(max(value.rxMax, value.combinedMax)), Separate: value.combinedMax == 0}
}

// readUDPHash is `ethtool -n NAME rx-flow-hash udp4`.
func readUDPHash(name string) Hash {
	const (
		addresses = 1<<4 | 1<<5 // RXH_IP_SRC, RXH_IP_DST
		ports     = 1<<6 | 1<<7 // RXH_L4_B_0_1, RXH_L4_B_2_3
	)
	value := struct { // struct ethtool_rxnfc, of which the kernel copies all
		command, flow uint32
		data          uint64
		_             [176]byte
	}{command: unix.ETHTOOL_GRXFH, flow: unix.UDP_V4_FLOW}
	if ethtool.Query(name, &value) != nil || value.data == 0 {
		return Hash{}
	}
	return Hash{Known: true, Addresses: value.data&addresses == addresses, Ports: value.data&ports == ports}
}

// readOffloads tells GRO and LRO of `ethtool -k`.
func readOffloads(name string) (gro, lro bool) {
	const flagLRO = 1 << 15 // ETH_FLAG_LRO
	value := struct{ command, data uint32 }{command: unix.ETHTOOL_GGRO}
	gro = ethtool.Query(name, &value) == nil && value.data != 0
	value.command, value.data = unix.ETHTOOL_GFLAGS, 0
	return gro, ethtool.Query(name, &value) == nil && value.data&flagLRO != 0
}
