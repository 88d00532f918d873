// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Link is the link-layer header of frames to a peer: Ethernet's, with up to two
// VLAN tags. The zero Link is none. Links are comparable.
type Link struct {
	header [ethernetLen + vlanTagsMax*vlanTagLen]byte
	length uint8
}

// IsZero reports whether there is none.
func (l *Link) IsZero() bool { return l.length == 0 }

// AnswerLink returns the header by which the frame b, whose IP header starts at
// network, is answered: the addresses the other way round, the same VLANs, with
// no priority. It is none if either address is a group's: nobody sends from one,
// and an answer to one would be everybody's.
func AnswerLink(b []byte, network int) (l Link) {
	const group = 1
	if (b[0]|b[6])&group != 0 {
		return l
	}
	l.length = uint8(copy(l.header[:], b[:network]))
	copy(l.header[0:6], b[6:12])
	copy(l.header[6:12], b[0:6])
	for at := ethernetLen; at < network; at += vlanTagLen {
		l.header[at] &= 0x0f // the priority of its tag
	}
	return l
}

const (
	ttl            = 64
	ipDontFragment = 0x40
)

// appendHeaders appends what precedes a datagram in a frame: link, IP and UDP
// headers, with DF, Not-ECT and both checksums. A frame that no stack looks at again
// is checked by nobody before the peer: IPv6 demands UDP's checksum, and
// middleboxes drop IPv4 without one. Both addresses are of one family.
func appendHeaders(b []byte, l *Link, local, remote netip.AddrPort, payload []byte) []byte {
	b = append(b, l.header[:l.length]...)
	udp := udpLen + len(payload)
	var pseudo uint64
	if remote.Addr().Is4() {
		start := len(b)
		src, dst := local.Addr().As4(), remote.Addr().As4()
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(ipv4Len+udp))
		b = append(b, 0, 0, ipDontFragment, 0, ttl, protoUDP, 0, 0)
		b = append(append(b, src[:]...), dst[:]...)
		binary.BigEndian.PutUint16(b[start+10:], ^fold(sum(0, b[start:])))
		pseudo = sum(0, b[start+12:])
	} else {
		src, dst := local.Addr().As16(), remote.Addr().As16()
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(udp))
		b = append(b, protoUDP, ttl)
		start := len(b)
		b = append(append(b, src[:]...), dst[:]...)
		pseudo = sum(0, b[start:])
	}
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, local.Port())
	b = binary.BigEndian.AppendUint16(b, remote.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(udp))
	b = append(b, 0, 0)
	length := [4]byte{0, protoUDP, byte(udp >> 8), byte(udp)} // the rest of the pseudo header
	check := ^fold(sum(sum(sum(pseudo, length[:]), b[start:]), payload))
	if check == 0 {
		check = 0xffff // 0 says that there is none
	}
	binary.BigEndian.PutUint16(b[start+6:], check)
	return b
}

// sum adds bytes to a sum in one's complement, by eight at a time (RFC 1071 section
// 2). All but the last piece have an even length.
func sum(s uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 32 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[24:]), carry)
		s += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s += carry
		b = b[8:]
	}
	var last [8]byte
	copy(last[:], b)
	s, carry = bits.Add64(s, binary.BigEndian.Uint64(last[:]), 0)
	return s + carry
}

func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}
