// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8

	protoHopByHop = 0
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoDstOpts  = 60
)

var (
	serverMAC = [6]byte{2, 0, 0, 0, 0, 1}
	clientMAC = [6]byte{2, 0, 0, 0, 0, 2}

	client4 = netip.MustParseAddrPort("192.0.2.10:40000")
	server4 = netip.MustParseAddrPort("198.51.100.7:7626")
	client6 = netip.MustParseAddrPort("[2001:db8::10]:40000")
	server6 = netip.MustParseAddrPort("[2001:db8:7::1]:7626")
)

// extension is an IPv6 extension header: its type and what follows its first
// two bytes, padded to a multiple of eight bytes.
type extension struct {
	proto byte
	body  []byte
}

// frame describes an Ethernet frame. Zero values give a plain one.
type frame struct {
	vlans      []uint16 // TPIDs, outermost first
	src, dst   netip.AddrPort
	options    []byte // IPv4, a multiple of four bytes
	extensions []extension
	proto      byte // 0: UDP
	tos, ttl   byte
	payload    []byte
	padding    int // bytes after the IP packet
}

func (f frame) bytes() []byte {
	udp := f.udp()
	packet := f.ipv4(udp)
	ether := uint16(etherIPv4)
	if f.dst.Addr().Is6() {
		packet, ether = f.ipv6(udp), etherIPv6
	}
	b := slices.Concat(serverMAC[:], clientMAC[:])
	for _, tpid := range f.vlans {
		b = binary.BigEndian.AppendUint16(b, tpid)
		b = append(b, 0x20, 42) // priority and tag
	}
	b = binary.BigEndian.AppendUint16(b, ether)
	b = append(b, packet...)
	return append(b, make([]byte, f.padding)...)
}

func (f frame) udp() []byte {
	b := binary.BigEndian.AppendUint16(nil, f.src.Port())
	b = binary.BigEndian.AppendUint16(b, f.dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(f.payload)))
	b = append(b, 0, 0)
	b = append(b, f.payload...)
	if f.src.Addr().Is4() == f.dst.Addr().Is4() {
		binary.BigEndian.PutUint16(b[6:], udpChecksum(f.src.Addr(), f.dst.Addr(), b))
	}
	return b
}

func (f frame) protocol() byte {
	if f.proto == 0 {
		return protoUDP
	}
	return f.proto
}

func (f frame) ipv4(transport []byte) []byte {
	header := 20 + len(f.options)
	b := []byte{0x40 | byte(header/4), f.tos}
	b = binary.BigEndian.AppendUint16(b, uint16(header+len(transport)))
	b = append(b, 0x12, 0x34, 0x40, 0, f.hops(), f.protocol(), 0, 0)
	if !f.src.Addr().Is4() || !f.dst.Addr().Is4() {
		return b
	}
	b = append(b, f.src.Addr().AsSlice()...)
	b = append(b, f.dst.Addr().AsSlice()...)
	b = append(b, f.options...)
	binary.BigEndian.PutUint16(b[10:], ^sum16(b))
	return append(b, transport...)
}

func (f frame) hops() byte {
	if f.ttl == 0 {
		return 57
	}
	return f.ttl
}

func (f frame) ipv6(transport []byte) []byte {
	src, dst := f.src.Addr().As16(), f.dst.Addr().As16()
	var chain []byte
	next := f.protocol()
	for _, x := range slices.Backward(f.extensions) {
		body := append([]byte{next, 0}, x.body...)
		body = append(body, make([]byte, (8-len(body)%8)%8)...)
		body[1] = byte(len(body)/8 - 1)
		chain = append(body, chain...)
		next = x.proto
	}
	b := []byte{0x60 | f.tos>>4, f.tos<<4 | 0x0a, 0xbc, 0xde} // with a flow label
	b = binary.BigEndian.AppendUint16(b, uint16(len(chain)+len(transport)))
	b = append(b, next, f.hops())
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	b = append(b, chain...)
	return append(b, transport...)
}

// edited returns the frame's bytes after a change.
func (f frame) edited(edit func(b []byte)) []byte {
	b := f.bytes()
	edit(b)
	return b
}

// sum16 is the ones' complement sum of RFC 1071, not inverted.
func sum16(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// udpChecksum is the checksum for a segment whose checksum field is zero.
func udpChecksum(src, dst netip.Addr, segment []byte) uint16 {
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice())
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(segment)))
	pseudo = append(pseudo, 0, 0, 0, protoUDP)
	check := ^sum16(append(pseudo, segment...))
	if check == 0 {
		return 0xffff
	}
	return check
}
