// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"encoding/binary"
	"net/netip"
)

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	protoUDP  = 17
)

// parseFrame reads the addresses and payload of a UDP packet in an Ethernet
// frame, of either family, without IPv4 options, extension headers or fragments:
// ROAM sends none. The payload aliases the frame.
func parseFrame(frame []byte) (src, dst netip.AddrPort, payload []byte, ok bool) {
	if len(frame) < 14 {
		return src, dst, nil, false
	}
	packet := frame[14:]
	var from, to netip.Addr
	var udp []byte
	switch etherType := binary.BigEndian.Uint16(frame[12:]); {
	case etherType == etherIPv4 && len(packet) >= 28 && packet[0] == 0x45 && packet[9] == protoUDP &&
		binary.BigEndian.Uint16(packet[6:])&0x3fff == 0:
		from, to = netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
		udp = packet[20:]
	case etherType == etherIPv6 && len(packet) >= 48 && packet[6] == protoUDP:
		from, to = netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
		udp = packet[40:]
	default:
		return src, dst, nil, false
	}
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < 8 || length > len(udp) {
		return src, dst, nil, false
	}
	src = netip.AddrPortFrom(from, binary.BigEndian.Uint16(udp[0:]))
	dst = netip.AddrPortFrom(to, binary.BigEndian.Uint16(udp[2:]))
	return src, dst, udp[8:length], true
}

// appendFrame builds the frame of a UDP packet, of the family of dst, with
// whole checksums.
func appendFrame(b []byte, srcMAC, dstMAC [6]byte, src, dst netip.AddrPort, payload []byte) []byte {
	b = append(b, dstMAC[:]...)
	b = append(b, srcMAC[:]...)
	length := uint16(8 + len(payload))
	if dst.Addr().Is4() {
		b = binary.BigEndian.AppendUint16(b, etherIPv4)
		start := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, 20+length)
		b = append(b, 0, 0, 0x40, 0, 64, protoUDP, 0, 0) // DF, 64 hops
		b = append(b, src.Addr().AsSlice()...)
		b = append(b, dst.Addr().AsSlice()...)
		binary.BigEndian.PutUint16(b[start+10:], ^fold(0, b[start:]))
	} else {
		b = binary.BigEndian.AppendUint16(b, etherIPv6)
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, length)
		b = append(b, protoUDP, 64)
		b = append(b, src.Addr().AsSlice()...)
		b = append(b, dst.Addr().AsSlice()...)
	}
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, length)
	b = append(b, 0, 0)
	b = append(b, payload...)
	addresses := udp - 2*dst.Addr().BitLen()/8
	sum := ^fold(protoUDP+uint32(length), b[addresses:])
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[udp+6:], sum)
	return b
}

// fold is the ones' complement sum of b on top of an initial one (RFC 1071).
func fold(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
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
