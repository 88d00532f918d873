// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

const (
	ethernetLen = 14
	ipv4Len     = 20
	headersLen  = ethernetLen + ipv4Len + 8
	frameIDAt   = headersLen + 8 // type and counter come before
)

// Ends are where frames come from and go to.
type Ends struct {
	SourceMAC, MAC net.HardwareAddr
	Source, Dest   netip.AddrPort // IPv4
}

// Somewhere is for frames that reach no stack.
var Somewhere = Ends{
	SourceMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1},
	Source: netip.MustParseAddrPort("192.0.2.10:40000"), Dest: netip.MustParseAddrPort("198.51.100.7:7626"),
}

// AppendFrame appends an Ethernet frame with payload in UDP over IPv4. The
// datagram has no checksum, as IPv4 allows.
func (e Ends) AppendFrame(b, payload []byte) []byte {
	b = append(append(append(b, e.MAC...), e.SourceMAC...), 8, 0)
	ip := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipv4Len+8+len(payload)))
	b = append(b, 0, 0, 0x40, 0, 64, 17, 0, 0)
	b = append(append(b, e.Source.Addr().AsSlice()...), e.Dest.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(b[ip+10:], checksum(b[ip:]))
	b = binary.BigEndian.AppendUint16(b, e.Source.Port())
	b = binary.BigEndian.AppendUint16(b, e.Dest.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// checksum is that of an IPv4 header whose own field is zero (RFC 1071).
func checksum(header []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// Preparation is what a frame is given before each run.
type Preparation int

// The preparations.
const (
	AsItIs  Preparation = iota // nothing: the program leaves it alone
	Restore                    // its length and first bytes
	OneID                      // the same session's id
	LiveIDs                    // the id of another session
	Forged                     // such an id with a wrong tag
)

// GiveFrame makes the harness run over a frame, whose payload is a DATA packet
// where it is to get an id.
func (h *Harness) GiveFrame(frame []byte, p Preparation) error {
	h.frame = frame
	cfg := harnessHarnessConfig{Length: uint32(len(h.frame)), Random: 0x9e3779b97f4a7c15}
	cfg.Key.K0, cfg.Key.K1 = IDKey.K0, IDKey.K1
	var f harnessHarnessFrame
	switch p {
	case Restore:
		cfg.Restore = 1
		copy(f.Bytes[:], h.frame)
	case OneID:
		id := IDOf(0, h.Maps["slots"].MaxEntries()-1)
		binary.LittleEndian.PutUint64(h.frame[frameIDAt:], id[0])
		binary.LittleEndian.PutUint64(h.frame[frameIDAt+8:], id[1])
	case Forged:
		cfg.Forge = 1
		fallthrough
	case LiveIDs:
		cfg.IdAt, cfg.IdMask = frameIDAt, h.Maps["slots"].MaxEntries()-1
	}
	return errors.Join(h.Maps["harness_frames"].Put(uint32(0), f), h.Maps["harness_configs"].Put(uint32(0), cfg))
}
