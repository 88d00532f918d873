// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// wantRetry builds the whole frame that must come back, from PROTOCOL.md and
// the RFCs, with nothing taken from the data plane.
func wantRetry(f frame, cookie wire.Cookie) []byte {
	payload := []byte{wire.TypeRetry, 0, 0, 0, 0, 0, 0, 1}
	payload = append(payload, f.payload[8:24]...)
	payload = append(payload, cookie[:]...)
	g := frame{src: f.dst, dst: f.src, ttl: 64, payload: payload}
	b := g.bytes()
	copy(b[0:6], clientMAC[:])
	copy(b[6:12], serverMAC[:])
	if g.dst.Addr().Is4() {
		copy(b[14+4:], []byte{0, 0, 0x40, 0}) // no identification, do not fragment
		copy(b[14+10:], []byte{0, 0})
		binary.BigEndian.PutUint16(b[14+10:], ^sum16(b[14:34]))
	} else {
		copy(b[14:], []byte{0x60, 0, 0, 0})
	}
	var tags []byte
	for _, tpid := range f.vlans {
		tags = append(binary.BigEndian.AppendUint16(tags, tpid), 0x20, 42)
	}
	return slices.Concat(b[:12], tags, b[12:])
}

func TestRetry(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyAlways)
	for _, fam := range families {
		for _, tags := range []struct {
			name  string
			tpids []uint16
		}{{"", nil}, {"_vlan", []uint16{etherVLAN}}, {"_qinq", []uint16{etherQinQ, etherVLAN}}} {
			name := "retry_" + fam.name + tags.name
			t.Run(name, func(t *testing.T) {
				p := p.on(t)
				f := frame{src: fam.client, dst: fam.server, vlans: tags.tpids, tos: 0x2f, payload: initPacket()}
				got := p.runAt(testTime, f.bytes())
				if got.reason != reasonRetry || got.action != xdpTX {
					t.Fatalf("reason %d, action %d; want a RETRY by TX", got.reason, got.action)
				}
				cookie := testCookies.Make(testTime, handshakeID(f.payload), f.src, f.dst)
				if want := wantRetry(f, cookie); !bytes.Equal(got.out, want) {
					t.Errorf("sent %x\nwant %x", got.out, want)
				}
			})
		}
	}
}

// Checksums for many addresses, ports and cookies, among them sums that carry.
func TestRetryChecksums(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyAlways)
	r := newRand(t)
	for i := range 3000 {
		fam := families[i%2]
		f := frame{src: randomAddr(r, fam.client), dst: fam.server, payload: initPacket()}
		copy(f.payload[8:], randomBytes(r, 16))
		if i%16 < 2 {
			copy(f.payload[8:], bytes.Repeat([]byte{0xff}, 16))
		}
		signed(f.payload)
		got := p.runAt(testTime, f.bytes())
		cookie := testCookies.Make(testTime, handshakeID(f.payload), f.src, f.dst)
		if want := wantRetry(f, cookie); !bytes.Equal(got.out, want) {
			t.Fatalf("reason %d: sent %x\nwant %x", got.reason, got.out, want)
		}
	}
}

// Never to or from a group, never where headers have options.
func TestRetryRefused(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyAlways)
	plain4 := frame{src: client4, dst: server4, payload: initPacket()}
	plain6 := frame{src: client6, dst: server6, payload: initPacket()}
	from := func(f frame, addr string) []byte {
		f.src = netip.AddrPortFrom(netip.MustParseAddr(addr), 4000)
		return f.bytes()
	}
	to := func(f frame, addr string) []byte {
		f.dst = netip.AddrPortFrom(netip.MustParseAddr(addr), 7626)
		p.listen(f.dst, 0, 0)
		return f.bytes()
	}
	with := func(f frame, change func(f *frame)) []byte {
		change(&f)
		return f.bytes()
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want bpf.RoamRoamReason
	}{
		{"unicast", plain4.bytes(), reasonRetry},
		{"from a multicast MAC", plain4.edited(func(b []byte) { b[6] |= 1 }), reasonRetryFailed},
		{"to a multicast MAC", plain4.edited(func(b []byte) { b[0] |= 1 }), reasonRetryFailed},
		{"to the broadcast MAC", plain6.edited(func(b []byte) { copy(b, "\xff\xff\xff\xff\xff\xff") }), reasonRetryFailed},
		{"from 0.0.0.0", from(plain4, "0.0.0.0"), reasonRetryFailed},
		{"from 0.1.2.3", from(plain4, "0.1.2.3"), reasonRetryFailed},
		{"from 223.255.255.254", from(plain4, "223.255.255.254"), reasonRetry},
		{"from 224.0.0.1", from(plain4, "224.0.0.1"), reasonRetryFailed},
		{"from 240.0.0.1", from(plain4, "240.0.0.1"), reasonRetryFailed},
		{"from 255.255.255.255", from(plain4, "255.255.255.255"), reasonRetryFailed},
		{"to 224.0.0.1", to(plain4, "224.0.0.1"), reasonRetryFailed},
		{"to 255.255.255.255", to(plain4, "255.255.255.255"), reasonRetryFailed},
		{"from ::", from(plain6, "::"), reasonRetryFailed},
		{"from ff02::1", from(plain6, "ff02::1"), reasonRetryFailed},
		{"from fe80::1", from(plain6, "fe80::1"), reasonRetry},
		{"to ff02::1", to(plain6, "ff02::1"), reasonRetryFailed},
		{"options", with(plain4, func(f *frame) { f.options = make([]byte, 4) }), reasonInitSlow},
		{"extension header", with(plain6, func(f *frame) { f.extensions = []extension{{60, nil}} }), reasonInitSlow},
		{"wrong mac1", plain4.edited(func(b []byte) { b[14+28+mac1At] ^= 1 }), reasonMAC1},
		{"wrong mac1 from a group", from(frame{dst: server4, payload: reserved(50)}, "224.0.0.1"), reasonMAC1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.on(t)
			got := p.run(tt.in)
			if got.reason != tt.want || got.action != actionOf(tt.want) {
				t.Errorf("reason %d, action %d; want %d", got.reason, got.action, tt.want)
			}
			if got.action != xdpTX && !bytes.Equal(got.out, tt.in) {
				t.Error("the frame was changed")
			}
		})
	}
}
