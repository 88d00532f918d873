// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// checksum is the plain Internet checksum (RFC 1071), to check the incremental one against.
func checksum(parts ...[]byte) uint16 {
	var s uint32
	for _, b := range parts {
		for ; len(b) > 1; b = b[2:] {
			s += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			s += uint32(b[0]) << 8
		}
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

func udpChecksum(p udp4) uint16 {
	pseudo := []byte{0, protoUDP, byte(len(p.udp) >> 8), byte(len(p.udp))}
	sum := checksum(p.ip[12:20], pseudo, p.udp[:6], p.udp[8:])
	if sum == 0 {
		return 0xffff
	}
	return sum
}

// frame builds a valid Ethernet frame with options in its IPv4 header.
func frame(src, dst netip.AddrPort, options int, payload []byte) []byte {
	b := make([]byte, ethernetLen+ipv4Len+options+udpLen+len(payload))
	binary.BigEndian.PutUint16(b[12:], etherIPv4)
	ip := b[ethernetLen:]
	ip[0] = byte(0x40 | (ipv4Len+options)/4)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8], ip[9] = 64, protoUDP
	copy(ip[12:], src.Addr().AsSlice())
	copy(ip[16:], dst.Addr().AsSlice())
	header := ip[:ipv4Len+options]
	binary.BigEndian.PutUint16(ip[10:], checksum(header))
	udp := ip[ipv4Len+options:]
	binary.BigEndian.PutUint16(udp[0:], src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[udpLen:], payload)
	p, _ := parseUDP4(b)
	binary.BigEndian.PutUint16(udp[6:], udpChecksum(p))
	return b
}

func TestRewriteKeepsChecksumsWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	anyone := func() netip.AddrPort {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], random.Uint32())
		return netip.AddrPortFrom(netip.AddrFrom4(a), uint16(random.Uint32()))
	}
	for range 20000 {
		payload := make([]byte, random.IntN(40))
		for i := range payload {
			payload[i] = byte(random.Uint32())
		}
		p, ok := parseUDP4(frame(anyone(), anyone(), 4*random.IntN(3), payload))
		if !ok {
			t.Fatal("a valid frame was refused")
		}
		src, dst := anyone(), anyone()
		p.setSource(src)
		p.setDestination(dst)
		if !p.hop() || p.ip[8] != 63 {
			t.Fatalf("time to live is %d after one hop from 64", p.ip[8])
		}
		if p.source() != src || p.destination() != dst {
			t.Fatalf("rewritten to %v -> %v, want %v -> %v", p.source(), p.destination(), src, dst)
		}
		if got := checksum(p.ip); got != 0 {
			t.Fatalf("IPv4 header does not sum up: %#04x", got)
		}
		if got, want := binary.BigEndian.Uint16(p.udp[6:]), udpChecksum(p); got != want {
			t.Fatalf("UDP checksum %#04x, want %#04x", got, want)
		}
	}
}

func TestRewriteLeavesNoChecksumNone(t *testing.T) {
	p, _ := parseUDP4(frame(netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"), 0, nil))
	binary.BigEndian.PutUint16(p.udp[6:], 0)
	p.setSource(netip.MustParseAddrPort("192.0.2.1:9"))
	if sum := binary.BigEndian.Uint16(p.udp[6:]); sum != 0 {
		t.Fatalf("a packet without checksum got %#04x", sum)
	}
}

func TestParseRefuses(t *testing.T) {
	valid := func() []byte {
		return frame(netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"), 0, []byte("hello"))
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"short":              func(b []byte) []byte { return b[:ethernetLen+ipv4Len+udpLen-1] },
		"not IPv4":           func(b []byte) []byte { b[12] = 0x86; return b },
		"version 6":          func(b []byte) []byte { b[ethernetLen] = 0x65; return b },
		"header too short":   func(b []byte) []byte { b[ethernetLen] = 0x44; return b },
		"options past end":   func(b []byte) []byte { b[ethernetLen] = 0x4f; return b },
		"longer than frame":  func(b []byte) []byte { b[ethernetLen+3]++; return b },
		"fragment":           func(b []byte) []byte { b[ethernetLen+6] = 0x20; return b },
		"later fragment":     func(b []byte) []byte { b[ethernetLen+7] = 1; return b },
		"another protocol":   func(b []byte) []byte { b[ethernetLen+9] = 6; return b },
		"no room for header": func(b []byte) []byte { b[ethernetLen+3] = ipv4Len + udpLen - 1; return b },
	} {
		if _, ok := parseUDP4(spoil(valid())); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	padded := append(valid(), make([]byte, 13)...)
	if p, ok := parseUDP4(padded); !ok || len(p.frame) != len(padded)-13 {
		t.Errorf("a padded frame: ok %v, %d bytes of %d kept", ok, len(p.frame), len(padded))
	}
}
