// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Parts of frames: all datagrams carry "hello".
const (
	macs    = "020000000001 020000000002"
	ip4     = "0800 4500 0021 0000 4000 40 11 0000 c0000209 c0000201"
	udp     = "0fa0 1dca 000d 0000 68656c6c6f"
	ip6ends = "20010db8000000000000000000000002 20010db8000000000000000000000001"
)

func TestFrame(t *testing.T) {
	for _, tc := range []struct {
		name, frame string
		remote      string // "": refused
	}{
		{"IPv4", macs + ip4 + udp, "192.0.2.9:4000"},
		{"padded to Ethernet's least", macs + ip4 + udp + strings.Repeat("00", 13), "192.0.2.9:4000"},
		{"VLAN", macs + "8100 000a" + ip4 + udp, "192.0.2.9:4000"},
		{"two VLANs", macs + "88a8 000a 8100 000b" + ip4 + udp, "192.0.2.9:4000"},
		{"three VLANs", macs + "88a8 000a 8100 000b 8100 000c" + ip4 + udp, ""},
		{"options", macs + "0800 4600 0025 0000 4000 40 11 0000 c0000209 c0000201 01010100" + udp, "192.0.2.9:4000"},
		{"DF not set", macs + "0800 4500 0021 0000 0000 40 11 0000 c0000209 c0000201" + udp, "192.0.2.9:4000"},
		{"first fragment", macs + "0800 4500 0021 0000 2000 40 11 0000 c0000209 c0000201" + udp, ""},
		{"later fragment", macs + "0800 4500 0021 0000 0001 40 11 0000 c0000209 c0000201" + udp, ""},
		{"TCP", macs + "0800 4500 0021 0000 4000 40 06 0000 c0000209 c0000201" + udp, ""},
		{"version 5", macs + "0800 5500 0021 0000 4000 40 11 0000 c0000209 c0000201" + udp, ""},
		{"header shorter than any", macs + "0800 4400 0021 0000 4000 40 11 0000 c0000209 c0000201" + udp, ""},
		{"options beyond the packet", macs + "0800 4f00 0021 0000 4000 40 11 0000 c0000209 c0000201" + udp, ""},
		{"IP longer than the frame", macs + "0800 4500 0022 0000 4000 40 11 0000 c0000209 c0000201" + udp, ""},
		{"IP shorter than its header", macs + "0800 4500 0013 0000 4000 40 11 0000 c0000209 c0000201" + udp, ""},
		{"IP shorter than UDP", macs + "0800 4500 0020 0000 4000 40 11 0000 c0000209 c0000201" + udp, ""},
		{"UDP shorter than IP", macs + ip4 + "0fa0 1dca 000a 0000 6869 6c6c6f", "192.0.2.9:4000"},
		{"UDP shorter than its header", macs + ip4 + "0fa0 1dca 0007 0000 68656c6c6f", ""},
		{"no payload", macs + "0800 4500 001c 0000 4000 40 11 0000 c0000209 c0000201 0fa0 1dca 0008 0000", "192.0.2.9:4000"},

		{"IPv6", macs + "86dd 60000000 000d 11 40" + ip6ends + udp, "[2001:db8::2]:4000"},
		{"IPv6, VLAN", macs + "8100 0001 86dd 60000000 000d 11 40" + ip6ends + udp, "[2001:db8::2]:4000"},
		{"hop options", macs + "86dd 60000000 0015 00 40" + ip6ends + "1100 010400000000" + udp, "[2001:db8::2]:4000"},
		{"four extension headers", macs + "86dd 60000000 002d 00 40" + ip6ends + "3c00010400000000 3c00010400000000 3c00010400000000 1100010400000000" + udp, "[2001:db8::2]:4000"},
		{"five", macs + "86dd 60000000 0035 00 40" + ip6ends + "3c00010400000000 3c00010400000000 3c00010400000000 3c00010400000000 1100010400000000" + udp, ""},
		{"routing, at its last hop", macs + "86dd 60000000 0015 2b 40" + ip6ends + "1100 000000000000" + udp, "[2001:db8::2]:4000"},
		{"routing, not there", macs + "86dd 60000000 0015 2b 40" + ip6ends + "1100 000100000000" + udp, ""},
		{"IPv6 fragment", macs + "86dd 60000000 0015 2c 40" + ip6ends + "1100 000000000000" + udp, ""},
		{"extension beyond the packet", macs + "86dd 60000000 0015 00 40" + ip6ends + "11ff 010400000000" + udp, ""},
		{"IPv6 longer than the frame", macs + "86dd 60000000 000e 11 40" + ip6ends + udp, ""},
		{"jumbogram", macs + "86dd 60000000 0000 11 40" + ip6ends + udp, ""},
		{"mapped source", macs + "86dd 60000000 000d 11 40 00000000000000000000ffffc0000209 20010db8000000000000000000000001" + udp, ""},

		{"ARP", macs + "0806 0001", ""},
		{"nothing", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := unhex(t, tc.frame)
			var f frame
			if ok := f.parse(b); ok != (tc.remote != "") {
				t.Fatalf("parse: %v", ok)
			} else if !ok {
				return
			}
			want := "hello"
			switch tc.name {
			case "no payload":
				want = ""
			case "UDP shorter than IP":
				want = "hi"
			}
			if string(f.payload) != want || cap(f.payload) != len(want) {
				t.Errorf("payload %q with room for %d", f.payload, cap(f.payload))
			}
			if f.remote.String() != tc.remote || f.local.Port() != 7626 || f.local.Addr().Is4() != f.remote.Addr().Is4() {
				t.Errorf("from %v to %v", f.remote, f.local)
			}
			// Cut anywhere, it is refused, or cut within the padding.
			for n := range len(b) {
				var f frame
				if f.parse(b[:n:n]) && string(f.payload) != want {
					t.Errorf("cut to %d bytes it yields %q", n, f.payload)
				}
			}
		})
	}
}

func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		macs + ip4 + udp, macs + "8100 000a" + ip4 + udp,
		macs + "86dd 60000000 000d 11 40" + ip6ends + udp,
		macs + "86dd 60000000 0015 00 40" + ip6ends + "1100 010400000000" + udp,
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got frame
		if !got.parse(b) {
			return
		}
		// What is accepted is in the frame, behind its own UDP header.
		if !bytes.Contains(b[ethernetLen+ipv4Len+udpLen:], got.payload) || cap(got.payload) != len(got.payload) {
			t.Fatalf("a payload of %d bytes out of %d", len(got.payload), len(b))
		}
		if !got.remote.IsValid() || !got.local.IsValid() || got.remote.Addr().Is4In6() || got.local.Addr().Is4In6() {
			t.Fatalf("from %v to %v", got.remote, got.local)
		}
		if got.proto == etherIPv4 && got.remote.Addr() != netip.AddrFrom4([4]byte(b[got.network+12:])) {
			t.Fatal("not the frame's source")
		}
		if n := binary.BigEndian.Uint16(b[got.network-2:]); int(n) != got.proto {
			t.Fatalf("EtherType %#x, in the frame %#x", got.proto, n)
		}
		// Its answer comes to where it came from, in as many tags, and to nobody else.
		link := AnswerLink(b, got.network)
		if group := (b[0]|b[6])&1 != 0; link.IsZero() != group {
			t.Fatalf("between % x and % x the answer has header %+v", b[:6], b[6:12], link)
		} else if group || got.local.Addr().Is4() != got.remote.Addr().Is4() {
			return
		}
		answer := append(appendHeaders(nil, &link, got.local, got.remote, got.payload), got.payload...)
		var back frame
		if !back.parse(answer) || back.remote != got.local || back.local != got.remote || back.network != got.network || !bytes.Equal(back.payload, got.payload) {
			t.Fatalf("of the answer we read %+v, of the frame %+v", back, got)
		}
		if !bytes.Equal(answer[:6], b[6:12]) || !bytes.Equal(answer[6:12], b[:6]) {
			t.Fatalf("the answer goes to % x", answer[:12])
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	for _, tc := range []struct{ name, frame string }{
		{"v4", macs + ip4 + udp}, {"v6", macs + "86dd 60000000 000d 11 40" + ip6ends + udp},
	} {
		b.Run(tc.name, func(b *testing.B) {
			frameBytes := unhex(b, tc.frame)
			b.ReportAllocs()
			for b.Loop() {
				var f frame
				if !f.parse(frameBytes) {
					b.Fatal("refused")
				}
			}
		})
	}
}
