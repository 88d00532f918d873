// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/binary"
	"net/netip"
)

const (
	ethernetLen = 14
	ipv4Len     = 20 // without options
	udpLen      = 8
	etherIPv4   = 0x0800
	protoUDP    = 17
)

// udp4 is an IPv4 UDP packet inside an Ethernet frame, to be rewritten in place.
type udp4 struct {
	frame []byte // without the padding that short frames have
	ip    []byte // the IPv4 header with its options
	udp   []byte // the UDP header and payload
}

// parseUDP4 finds the headers of an unfragmented IPv4 UDP packet; ok is false
// for anything else.
func parseUDP4(frame []byte) (p udp4, ok bool) {
	if len(frame) < ethernetLen+ipv4Len+udpLen || binary.BigEndian.Uint16(frame[12:]) != etherIPv4 {
		return p, false
	}
	ip := frame[ethernetLen:]
	header, total := int(ip[0]&0x0f)*4, int(binary.BigEndian.Uint16(ip[2:]))
	fragment := binary.BigEndian.Uint16(ip[6:]) & 0x3fff // more-fragments bit and offset
	if ip[0]>>4 != 4 || header < ipv4Len || total < header+udpLen || total > len(ip) ||
		fragment != 0 || ip[9] != protoUDP {
		return p, false
	}
	return udp4{frame[:ethernetLen+total], ip[:header], ip[header:total]}, true
}

func (p udp4) source() netip.AddrPort      { return endpoint(p.ip[12:16], p.udp[0:2]) }
func (p udp4) destination() netip.AddrPort { return endpoint(p.ip[16:20], p.udp[2:4]) }

func endpoint(addr, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr)), binary.BigEndian.Uint16(port))
}

func (p udp4) setSource(to netip.AddrPort)      { p.rewrite(p.ip[12:16], p.udp[0:2], to) }
func (p udp4) setDestination(to netip.AddrPort) { p.rewrite(p.ip[16:20], p.udp[2:4], to) }

// rewrite replaces an address and a port and mends both checksums by the
// difference alone (RFC 1624), so that a checksum that was wrong stays wrong.
func (p udp4) rewrite(addr, port []byte, to netip.AddrPort) {
	ip := to.Addr().As4()
	udpSum := p.udp[6:8]
	if sum := binary.BigEndian.Uint16(udpSum); sum != 0 { // 0: the sender made none
		sum = adjust(sum, addr, ip[:])
		var number [2]byte
		binary.BigEndian.PutUint16(number[:], to.Port())
		if sum = adjust(sum, port, number[:]); sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(udpSum, sum)
	}
	binary.BigEndian.PutUint16(p.ip[10:], adjust(binary.BigEndian.Uint16(p.ip[10:]), addr, ip[:]))
	copy(addr, ip[:])
	binary.BigEndian.PutUint16(port, to.Port())
}

// hop counts the packet's time to live down; false when it ran out.
func (p udp4) hop() bool {
	if p.ip[8] <= 1 {
		return false
	}
	before := [2]byte(p.ip[8:10])
	p.ip[8]--
	binary.BigEndian.PutUint16(p.ip[10:], adjust(binary.BigEndian.Uint16(p.ip[10:]), before[:], p.ip[8:10]))
	return true
}

// adjust is the checksum after the bytes from were replaced by to; both have
// the same even length. RFC 1624, equation 3.
func adjust(sum uint16, from, to []byte) uint16 {
	s := uint32(^sum)
	for i := 0; i < len(from); i += 2 {
		s += uint32(^binary.BigEndian.Uint16(from[i:])) + uint32(binary.BigEndian.Uint16(to[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
