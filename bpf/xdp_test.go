// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// family is one of the two IP versions, for tests that hold for both.
type family struct {
	name           string
	client, server netip.AddrPort
}

var families = []family{{"ipv4", client4, server4}, {"ipv6", client6, server6}}

// ids are the sessions that most tests have in their table.
type ids struct{ main, quic, dtls, policed, unset, unknown, forged sessionID }

// populate fills the table: every session but unset has its validated path.
func (p *plane) populate(path netip.AddrPort) ids {
	r := newRand(p.t)
	s := ids{
		main: newID(r, 1, 0, testServerID), quic: newID(r, 2, 1, testServerID), dtls: newID(r, 3, 0, testServerID),
		policed: newID(r, 4, 0, testServerID), unset: newID(r, 5, 1, testServerID),
		unknown: newID(r, 6, 0, testServerID), forged: newID(r, 1, 0, testServerID+1),
	}
	p.store(session{id: s.main, kind: bpf.RoamRoamKindROAM_KIND_ROAM, owner: 1, path: path})
	p.store(session{id: s.quic, kind: bpf.RoamRoamKindROAM_KIND_QUIC, owner: 2, path: path})
	p.store(session{id: s.dtls, kind: bpf.RoamRoamKindROAM_KIND_DTLS, owner: 3, path: path})
	p.store(session{id: s.policed, kind: bpf.RoamRoamKindROAM_KIND_ROAM, flags: 1, path: path})
	p.store(session{id: s.unset, kind: bpf.RoamRoamKindROAM_KIND_ROAM})
	return s
}

func quicShort(id sessionID) []byte {
	return append(append([]byte{0x41}, id[:]...), make([]byte, 20)...)
}

func quicLong(dcid []byte) []byte {
	b := append([]byte{0xc3, 0, 0, 0, 1, byte(len(dcid))}, dcid...)
	return append(b, make([]byte, 1200-len(b))...)
}

func dtls12(id sessionID) []byte {
	b := make([]byte, 40)
	b[0] = 25
	copy(b[11:], id[:])
	return b
}

func dtls13(id sessionID) []byte { return append(append([]byte{0x3c}, id[:]...), make([]byte, 12)...) }

// reserved is an INIT with a byte that must be zero.
func reserved(at int) []byte {
	b := initPacket()
	b[at] = 1
	return b
}

func version(v uint32) []byte {
	b := initPacket()
	binary.BigEndian.PutUint32(b[4:], v)
	return b
}

// What a datagram to one of our listeners is, in every shape of headers that
// the parser follows: the fast path and the slow one must not differ.
func TestPayloads(t *testing.T) {
	for _, fam := range families {
		p := newPlane(t)
		p.setHandshake(policyNever)
		s := p.populate(fam.client)
		elsewhere := netip.AddrPortFrom(fam.client.Addr(), fam.client.Port()+1)
		portZero := netip.AddrPortFrom(fam.client.Addr(), 0)
		for _, tt := range []struct {
			name    string
			src     netip.AddrPort
			payload []byte
			want    bpf.RoamRoamReason
		}{
			{"main", fam.client, dataPacket(s.main), reasonMain},
			{"main, large", fam.client, append(dataPacket(s.main), make([]byte, 1100)...), reasonMain},
			{"policed", fam.client, dataPacket(s.policed), reasonMain},
			{"other port", elsewhere, dataPacket(s.main), reasonCandidate},
			{"no path yet", fam.client, dataPacket(s.unset), reasonCandidate},
			{"empty slot", fam.client, dataPacket(s.unknown), reasonReset},
			{"slot of QUIC", fam.client, dataPacket(s.quic), reasonReset},
			{"forged", fam.client, dataPacket(s.forged), reasonForged},
			{"zero id", fam.client, dataPacket(sessionID{}), reasonForged},
			{"key generation not in use", fam.client, dataPacket(sessionID{3: 0x20}), reasonForged},
			{"40 bytes", fam.client, dataPacket(s.main)[:40], reasonShort},
			{"empty", fam.client, nil, reasonShort},
			{"source port zero", portZero, dataPacket(s.main), reasonSourcePortZero},
			{"INIT from port zero", portZero, initPacket(), reasonSourcePortZero},
			{"INIT", fam.client, initPacket(), reasonInit},
			{"INIT, short", fam.client, initPacket()[:1199], reasonInitMalformed},
			{"INIT, long", fam.client, append(initPacket(), 0), reasonInitMalformed},
			{"INIT, reserved 1", fam.client, reserved(1), reasonInitMalformed},
			{"INIT, reserved 3", fam.client, reserved(3), reasonInitMalformed},
			{"INIT, version 0", fam.client, version(0), reasonInitMalformed},
			{"INIT, version 2", fam.client, version(2), reasonInitVersion},
			{"INIT, greased version", fam.client, version(0x0a0a0a0a), reasonInitVersion},
			{"INIT, other key", fam.client, reserved(79), reasonMAC1},
			{"RETRY", fam.client, append([]byte{9}, make([]byte, 39)...), reasonDirection},
			{"RESP", fam.client, append([]byte{10}, make([]byte, 99)...), reasonDirection},
			{"VERSIONS", fam.client, append([]byte{11}, make([]byte, 31)...), reasonDirection},
			{"grease", fam.client, []byte{15}, reasonGrease},
			{"STUN", fam.client, make([]byte, 20), reasonUnknown},
			{"RTP", fam.client, append([]byte{0x80}, make([]byte, 11)...), reasonUnknown},
			{"QUIC, known", fam.client, quicShort(s.quic), reasonQUIC},
			{"QUIC, unknown", fam.client, quicShort(s.unknown), reasonQUIC},
			{"QUIC, id of ROAM", fam.client, quicShort(s.main), reasonQUIC},
			{"QUIC, forged", fam.client, quicShort(s.forged), reasonForged},
			{"QUIC, truncated", fam.client, quicShort(s.quic)[:16], reasonShort},
			{"QUIC Initial, 8-byte id", fam.client, quicLong(make([]byte, 8)), reasonQUIC},
			{"QUIC Initial, client's 16-byte id", fam.client, quicLong(s.forged[:]), reasonQUIC},
			{"QUIC Initial, ours", fam.client, quicLong(s.quic[:]), reasonQUIC},
			{"QUIC long, no room for the id's length", fam.client, quicLong(nil)[:5], reasonShort},
			{"QUIC long, no room for the id", fam.client, quicLong(s.quic[:])[:21], reasonShort},
			{"DTLS handshake", fam.client, append([]byte{22, 254, 253}, make([]byte, 40)...), reasonDTLS},
			{"DTLS 1.2, known", fam.client, dtls12(s.dtls), reasonDTLS},
			{"DTLS 1.2, forged", fam.client, dtls12(s.forged), reasonForged},
			{"DTLS 1.2, truncated", fam.client, dtls12(s.dtls)[:26], reasonShort},
			{"DTLS 1.3, known", fam.client, dtls13(s.dtls), reasonDTLS},
			{"DTLS 1.3, forged", fam.client, dtls13(s.forged), reasonForged},
			{"DTLS 1.3, truncated", fam.client, dtls13(s.dtls)[:16], reasonShort},
			{"DTLS 1.3 without an id", fam.client, []byte{0x2c, 1, 2, 3}, reasonDTLS},
		} {
			t.Run(fam.name+"/"+tt.name, func(t *testing.T) {
				p := p.on(t)
				f := frame{src: tt.src, dst: fam.server, payload: tt.payload}
				for name, b := range shapes(f) {
					got := p.run(b)
					if got.reason != tt.want || got.action != actionOf(tt.want) {
						t.Errorf("%s: reason %d, action %d; want %d and %d",
							name, got.reason, got.action, tt.want, actionOf(tt.want))
					}
					if !bytes.Equal(got.out, b) {
						t.Errorf("%s: the frame was changed", name)
					}
				}
			})
		}
	}
}

// shapes are the ways in which one datagram may be wrapped.
func shapes(f frame) map[string][]byte {
	all := map[string][]byte{"plain": f.bytes()}
	with := func(name string, change func(f *frame)) {
		g := f
		change(&g)
		all[name] = g.bytes()
	}
	with("VLAN", func(f *frame) { f.vlans = []uint16{etherVLAN} })
	with("QinQ", func(f *frame) { f.vlans = []uint16{etherQinQ, etherVLAN} })
	with("padded", func(f *frame) { f.padding = 7 })
	with("ECN", func(f *frame) { f.tos = 3 })
	if f.dst.Addr().Is4() {
		with("options", func(f *frame) { f.options = []byte{7, 7, 4, 0, 0, 0, 0, 0} })
		with("most options", func(f *frame) { f.options = make([]byte, 40) })
		return all
	}
	with("hop-by-hop", func(f *frame) { f.extensions = []extension{{protoHopByHop, nil}} })
	with("four headers", func(f *frame) {
		f.extensions = []extension{
			{protoHopByHop, make([]byte, 20)}, {protoDstOpts, nil}, {protoRouting, nil}, {protoDstOpts, make([]byte, 200)},
		}
	})
	return all
}

// What is not ours goes to the stack as it came, and is counted by why.
func TestPassedOn(t *testing.T) {
	p := newPlane(t)
	s := p.populate(client4)
	plain4 := frame{src: client4, dst: server4, payload: dataPacket(s.main)}
	plain6 := frame{src: client6, dst: server6, payload: dataPacket(s.main)}
	with := func(f frame, change func(f *frame)) []byte {
		change(&f)
		return f.bytes()
	}
	const ip = 14
	for _, tt := range []struct {
		name string
		in   []byte
		want bpf.RoamRoamReason
	}{
		{"ARP", plain4.edited(func(b []byte) { b[12], b[13] = 8, 6 }), reasonNotIP},
		{"LLC length", plain4.edited(func(b []byte) { b[12], b[13] = 0, 50 }), reasonNotIP},
		{"Ethernet header alone", plain4.bytes()[:14], reasonIPMalformed},
		{"ARP, Ethernet header alone", plain4.edited(func(b []byte) { b[12], b[13] = 8, 6 })[:14], reasonNotIP},
		{"VLAN, truncated", with(plain4, func(f *frame) { f.vlans = []uint16{etherVLAN} })[:16], reasonNotIP},
		{"three VLAN tags", with(plain4, func(f *frame) { f.vlans = []uint16{etherQinQ, etherVLAN, etherVLAN} }), reasonVLANDepth},
		{"TCP", with(plain4, func(f *frame) { f.proto = protoTCP }), reasonNotUDP},
		{"TCP over IPv6", with(plain6, func(f *frame) { f.proto = protoTCP }), reasonNotUDP},
		{"TCP behind an extension header", with(plain6, func(f *frame) {
			f.proto, f.extensions = protoTCP, []extension{{protoDstOpts, nil}}
		}), reasonNotUDP},
		{"first fragment", plain4.edited(func(b []byte) { b[ip+6] = 0x20 }), reasonFragment},
		{"later fragment", plain4.edited(func(b []byte) { b[ip+7] = 3 }), reasonFragment},
		{"last fragment", plain4.edited(func(b []byte) { b[ip+6] = 1 }), reasonFragment},
		{"IPv6 fragment", with(plain6, func(f *frame) {
			f.extensions = []extension{{protoFragment, []byte{0, 1, 0, 0, 0, 9}}}
		}), reasonFragment},
		{"IPv6 fragment behind another header", with(plain6, func(f *frame) {
			f.extensions = []extension{{protoDstOpts, nil}, {protoFragment, make([]byte, 6)}}
		}), reasonFragment},
		{"five extension headers", with(plain6, func(f *frame) {
			f.extensions = []extension{{0, nil}, {60, nil}, {60, nil}, {60, nil}, {60, nil}}
		}), reasonExtHeaders},
		{"routing header, not at its end", with(plain6, func(f *frame) {
			f.extensions = []extension{{protoRouting, []byte{4, 1, 0, 0, 0, 0}}}
		}), reasonExtHeaders},
		{"extension headers beyond the parser's reach", with(plain6, func(f *frame) {
			f.extensions = []extension{{60, make([]byte, 2000)}, {60, make([]byte, 200)}}
		}), reasonExtHeaders},
		{"extension header, truncated", with(plain6, func(f *frame) { f.extensions = []extension{{60, nil}} })[:ip+42], reasonIPMalformed},
		{"other address", with(plain4, func(f *frame) { f.dst = netip.MustParseAddrPort("198.51.100.8:7626") }), reasonNotListener},
		{"other port", with(plain4, func(f *frame) { f.dst = netip.MustParseAddrPort("198.51.100.7:7627") }), reasonNotListener},
		{"port zero", with(plain4, func(f *frame) { f.dst = netip.MustParseAddrPort("198.51.100.7:0") }), reasonNotListener},
		{"address and port zero", with(plain4, func(f *frame) { f.dst = netip.MustParseAddrPort("0.0.0.0:0") }), reasonNotListener},
		{"unspecified address and port zero", with(plain6, func(f *frame) { f.dst = netip.MustParseAddrPort("[::]:0") }), reasonNotListener},
		{"other IPv6 address", with(plain6, func(f *frame) { f.dst = netip.MustParseAddrPort("[2001:db8:7::2]:7626") }), reasonNotListener},
		{"IPv4 version 5", plain4.edited(func(b []byte) { b[ip] = 0x55 }), reasonIPMalformed},
		{"IPv4 header of 16 bytes", plain4.edited(func(b []byte) { b[ip] = 0x44 }), reasonIPMalformed},
		{"IPv4 longer than the frame", plain4.edited(func(b []byte) { b[ip+2] = 9 }), reasonIPMalformed},
		{"IPv4 shorter than its header", plain4.edited(func(b []byte) { b[ip+2], b[ip+3] = 0, 19 }), reasonIPMalformed},
		{"IPv4 without room for UDP", plain4.edited(func(b []byte) { b[ip+2], b[ip+3] = 0, 27 }), reasonIPMalformed},
		{"IPv4, truncated", plain4.bytes()[:ip+19], reasonIPMalformed},
		{"IPv6 version 4", plain6.edited(func(b []byte) { b[ip] = 0x40 }), reasonIPMalformed},
		{"IPv6 longer than the frame", plain6.edited(func(b []byte) { b[ip+4] = 9 }), reasonIPMalformed},
		{"IPv6 without room for UDP", plain6.edited(func(b []byte) { b[ip+4], b[ip+5] = 0, 7 }), reasonIPMalformed},
		{"IPv6 from an IPv4-mapped address", with(plain6, func(f *frame) {
			f.src = netip.AddrPortFrom(netip.AddrFrom16(client4.Addr().As16()), client4.Port())
		}), reasonIPMalformed},
		{"IPv6, truncated", plain6.bytes()[:ip+39], reasonIPMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.on(t)
			got := p.run(tt.in)
			if got.reason != tt.want || got.action != xdpPass {
				t.Errorf("reason %d, action %d; want %d passed", got.reason, got.action, tt.want)
			}
			if !bytes.Equal(got.out, tt.in) {
				t.Error("the frame was changed")
			}
		})
	}
}

// A UDP length that contradicts the packet is ours to drop, once the packet is
// known to be for us.
func TestUDPLength(t *testing.T) {
	p := newPlane(t)
	for _, fam := range families {
		s := p.populate(fam.client)
		plain := frame{src: fam.client, dst: fam.server, payload: dataPacket(s.main), padding: 40}
		length := 14 + 20 + 4
		if fam.client.Addr().Is6() {
			length = 14 + 40 + 4
		}
		for _, tt := range []struct {
			length uint16
			want   bpf.RoamRoamReason
		}{{0, reasonShort}, {7, reasonShort}, {8, reasonShort}, {48, reasonShort}, {49, reasonMain}, {50, reasonShort}, {65535, reasonShort}} {
			b := plain.edited(func(b []byte) { binary.BigEndian.PutUint16(b[length:], tt.length) })
			if got := p.run(b); got.reason != tt.want || got.action != actionOf(tt.want) {
				t.Errorf("%s: UDP length %d: reason %d, action %d; want %d", fam.name, tt.length, got.reason, got.action, tt.want)
			}
		}
	}
}

// The data plane writes to a slot nothing but the candidate lane's bucket and,
// for QUIC and DTLS, when it was last seen.
func TestSlotsUnchanged(t *testing.T) {
	p := newPlane(t)
	s := p.populate(client4)
	other := netip.MustParseAddrPort("203.0.113.5:5")
	for _, src := range []netip.AddrPort{client4, other} {
		for _, id := range []sessionID{s.main, s.quic, s.dtls, s.policed, s.unset} {
			for _, payload := range [][]byte{dataPacket(id), quicShort(id), dtls12(id), quicLong(id[:])} {
				before := p.slotOf(id)
				reason := p.run(frame{src: src, dst: server4, payload: payload}.bytes()).reason
				after := p.slotOf(id)
				if after.Seen != before.Seen && reason != reasonQUIC && reason != reasonDTLS {
					t.Errorf("reason %d wrote when the session was seen", reason)
				}
				if after.Bucket != before.Bucket && reason != reasonCandidate && id != s.policed {
					t.Errorf("reason %d wrote the bucket", reason)
				}
				after.Seen, after.Bucket = before.Seen, before.Bucket
				if after != before {
					t.Errorf("reason %d: slot %+v became %+v", reason, before, after)
				}
			}
		}
	}
	if seen := p.slotOf(s.quic).Seen; seen == 0 || monotonic(t)-seen > 60 {
		t.Errorf("the QUIC session was seen at %d, it is %d", seen, monotonic(t))
	}
}

// An AF_XDP socket takes the main lane of its queue; without one, or for what
// AF_XDP readers need not parse, the same packet goes to the stack.
func TestAFXDP(t *testing.T) {
	p := newXSKPlane(t)
	s := p.populate(client4)
	f := frame{src: client4, dst: server4, payload: dataPacket(s.main)}
	expect := func(what string, in []byte, want bpf.RoamRoamReason) {
		t.Helper()
		if got := p.run(in); got.reason != want || got.action != actionOf(want) {
			t.Errorf("%s: reason %d, action %d; want %d", what, got.reason, got.action, want)
		}
	}
	expect("no socket", f.bytes(), reasonMain)

	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const thirdInterface = 3 * 64
	p.must(p.objs.Xsks.Put(uint32(thirdInterface), uint32(fd)))
	defer p.objs.Xsks.Delete(uint32(thirdInterface))
	expect("socket of the queue", f.bytes(), reasonMainXSK)
	vlan, options, candidate := f, f, f
	vlan.vlans = []uint16{etherVLAN}
	expect("VLAN", vlan.bytes(), reasonMainXSK)
	options.options = make([]byte, 4)
	expect("options", options.bytes(), reasonMain)
	candidate.src = netip.MustParseAddrPort("192.0.2.10:40001")
	expect("candidate", candidate.bytes(), reasonCandidate)

	s6 := p.populate(client6)
	six := frame{src: client6, dst: server6, payload: dataPacket(s6.main)}
	expect("IPv6", six.bytes(), reasonMainXSK)
	for _, addr := range []string{"[fe80::1]:40000", "[febf:ff::1]:40000"} {
		local := netip.MustParseAddrPort(addr)
		s := p.populate(local)
		f := frame{src: local, dst: server6, payload: dataPacket(s.main)}
		expect("link-local source", f.bytes(), reasonMain)
		f.vlans = vlan.vlans
		expect("link-local source in a VLAN", f.bytes(), reasonMain)
	}
	site := netip.MustParseAddrPort("[fec0::1]:40000")
	expect("not link-local any more", frame{src: site, dst: server6, payload: dataPacket(p.populate(site).main)}.bytes(), reasonMainXSK)

	s = p.populate(client4)
	f.payload = dataPacket(s.main)
	p.must(p.objs.Xsks.Delete(uint32(thirdInterface)))
	p.must(p.objs.Xsks.Put(uint32(thirdInterface+1), uint32(fd)))
	defer p.objs.Xsks.Delete(uint32(thirdInterface + 1))
	expect("socket of another queue", f.bytes(), reasonMain)
}

// A listener is found in any of its places, whatever the others hold.
func TestListeners(t *testing.T) {
	p := newPlane(t)
	p.clear()
	s := p.populate(client4)
	in := frame{src: client4, dst: server4, payload: dataPacket(s.main)}.bytes()
	entry := bpf.RoamRoamListener{Addr: mapped(server4.Addr()), Port: networkOrder(server4.Port())}
	first := listenerHash(entry.Addr, entry.Port)
	expect := func(what string, want bpf.RoamRoamReason) {
		t.Helper()
		if got := p.run(in).reason; got != want {
			t.Errorf("%s: reason %d, want %d", what, got, want)
		}
	}
	expect("empty table", reasonNotListener)
	for i := range uint32(8) {
		p.listenAt(first+i, entry)
		expect("any place, the others free", reasonMain)
		p.listenAt(first+i, bpf.RoamRoamListener{})
		expect("removed", reasonNotListener)
		p.listenAt(first+i, bpf.RoamRoamListener{Addr: mapped(client4.Addr()), Port: entry.Port})
	}
	expect("all places taken by others", reasonNotListener)
	p.listenAt(first+8, entry)
	expect("beyond the last place", reasonNotListener)
	p.listenAt(first+7, entry)
	expect("last place", reasonMain)

	p.clear()
	p.populate(client4)
	s = p.populate(client4)
	in = frame{src: client4, dst: server4, payload: dataPacket(s.main)}.bytes()
	anywhere := netip.AddrPortFrom(netip.IPv6Unspecified(), server4.Port())
	p.listen(anywhere, 0, 0)
	expect("any address, for the socket stage", reasonNotListener)
	p.listen(anywhere, 0, uint32(bpf.RoamRoamListenerFlagROAM_LISTENER_EVERYWHERE))
	expect("any address", reasonMain)
}

// The hash table must wrap around at its end.
func TestListenersWrap(t *testing.T) {
	p := newPlane(t)
	p.clear()
	s := p.populate(client4)
	for port := uint16(1); ; port++ {
		entry := bpf.RoamRoamListener{Addr: mapped(server4.Addr()), Port: networkOrder(port)}
		if listenerHash(entry.Addr, entry.Port) != 255 {
			continue
		}
		p.listenAt(255+7, entry)
		dst := netip.AddrPortFrom(server4.Addr(), port)
		if got := p.run(frame{src: client4, dst: dst, payload: dataPacket(s.main)}.bytes()).reason; got != reasonMain {
			t.Errorf("reason %d, want %d", got, reasonMain)
		}
		return
	}
}

// The interface and the queue of a packet come from the frame's context.
func TestUnknownQueue(t *testing.T) {
	p := newXSKPlane(t)
	s := p.populate(client4)
	in := frame{src: client4, dst: server4, payload: dataPacket(s.main)}.bytes()
	context := struct{ Data, DataEnd, DataMeta, Ifindex, Queue, Egress uint32 }{DataEnd: uint32(len(in)), Ifindex: 1}
	if got := p.runContext(in, context).reason; got != reasonMain {
		t.Errorf("reason %d, want %d", got, reasonMain)
	}
}

// The programs must also be accepted without AF_XDP, where the verifier sees
// another program than with it.
func TestLoads(t *testing.T) {
	for name, p := range map[string]*plane{"UDP": newPlane(t), "AF_XDP": newXSKPlane(t)} {
		info, err := p.objs.RoamXdp.Info()
		if err != nil {
			t.Fatal(err)
		}
		if insns, ok := info.VerifiedInstructions(); ok {
			t.Logf("%s: roam_xdp: %d instructions processed by the verifier", name, insns)
			if insns > 200_000 { // of a limit of 1,000,000: room for older kernels, which see less alike
				t.Errorf("%s: roam_xdp takes the verifier %d instructions", name, insns)
			}
		}
		if p.objs.RoamSocket.Type() != ebpf.SkReuseport {
			t.Errorf("roam_socket is a %v", p.objs.RoamSocket.Type())
		}
	}
}
