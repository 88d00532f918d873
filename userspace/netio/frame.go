// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"encoding/binary"
	"net/netip"
)

// frame is a UDP datagram inside an Ethernet frame.
type frame struct {
	payload        []byte // of the UDP datagram, within the frame
	remote, local  netip.AddrPort
	network, proto int // where the IP header starts, and its EtherType
}

const (
	ethernetLen = 14
	vlanTagLen  = 4
	ipv4Len     = 20
	ipv6Len     = 40
	udpLen      = 8

	vlanTagsMax         = 2
	extensionHeadersMax = 4
)

// EtherTypes and protocol numbers.
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8

	protoHopOptions  = 0
	protoUDP         = 17
	protoRouting     = 43
	protoDestOptions = 60
)

// parse reads what bpf/parse.h lets through, by the same rules, and trusts it no
// more than any bytes: XDP has looked at the frame, but nothing here depends on it.
// It reports false for all that is not a whole UDP datagram.
//
// No checksum is looked at. That of UDP covers bytes that are authenticated
// next, or thrown away; on a veth it is often a partial one, which only hardware
// would have completed. That of IPv4's header covers addresses, and a wrong one of
// those is no path of any session.
func (f *frame) parse(b []byte) bool {
	if len(b) < ethernetLen {
		return false
	}
	f.proto, f.network = int(binary.BigEndian.Uint16(b[12:])), ethernetLen
	for range vlanTagsMax {
		if f.proto != etherVLAN && f.proto != etherQinQ {
			break
		}
		if len(b) < f.network+vlanTagLen {
			return false
		}
		f.proto = int(binary.BigEndian.Uint16(b[f.network+2:]))
		f.network += vlanTagLen
	}
	switch f.proto {
	case etherIPv4:
		return f.parseIPv4(b[f.network:])
	case etherIPv6:
		return f.parseIPv6(b[f.network:])
	}
	return false
}

func (f *frame) parseIPv4(b []byte) bool {
	if len(b) < ipv4Len || b[0]>>4 != 4 {
		return false
	}
	header, total := int(b[0]&0x0f)*4, int(binary.BigEndian.Uint16(b[2:]))
	const fragment = 0x3fff // more fragments, and the offset
	if header < ipv4Len || total < header || total > len(b) ||
		b[9] != protoUDP || binary.BigEndian.Uint16(b[6:])&fragment != 0 {
		return false
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	return f.parseUDP(b[header:total], src, dst)
}

func (f *frame) parseIPv6(b []byte) bool {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return false
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return false
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	if src.Is4In6() { // would pass for the IPv4 path of that address
		return false
	}
	at, ok := udpAfter(b[:total], b[6])
	return ok && f.parseUDP(b[at:total], src, dst.Unmap())
}

// udpAfter returns where the UDP header of an IPv6 packet is, behind the few
// extension headers that a destination may have to look at.
func udpAfter(b []byte, next byte) (at int, ok bool) {
	at = ipv6Len
	for range extensionHeadersMax {
		switch next {
		case protoUDP:
			return at, true
		case protoHopOptions, protoRouting, protoDestOptions:
		default: // fragments too
			return 0, false
		}
		if len(b) < at+4 || next == protoRouting && b[at+3] != 0 { // not at its last hop
			return 0, false
		}
		next, at = b[at], at+(int(b[at+1])+1)*8
		if at > len(b) {
			return 0, false
		}
	}
	return at, next == protoUDP
}

func (f *frame) parseUDP(b []byte, src, dst netip.Addr) bool {
	if len(b) < udpLen {
		return false
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length < udpLen || length > len(b) {
		return false
	}
	f.payload = b[udpLen:length:length]
	f.remote = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	f.local = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	return true
}
