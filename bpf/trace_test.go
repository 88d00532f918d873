// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bpf"
)

const (
	flagPolice = uint8(bpf.RoamRoamSlotFlagROAM_SLOT_POLICE)
	flagTrace  = uint8(bpf.RoamRoamSlotFlagROAM_SLOT_TRACE)
	traceBody  = 2048 // of a frame, or of a packet beside its IP headers
)

func (p *plane) tracesLost() uint64 {
	p.t.Helper()
	var cpu bpf.RoamRoamCpu
	p.must(p.objs.Cpus.Lookup(p.cpu, &cpu))
	return cpu.TracesLost
}

// What comes for an id with the flag is told of as it came, with what became of it;
// what comes for another is not.
func TestTrace(t *testing.T) {
	for _, plane := range []struct {
		name string
		open func(testing.TB) *plane
	}{{"UDP sockets", newPlane}, {"AF_XDP", newXSKPlane}} {
		t.Run(plane.name, func(t *testing.T) {
			p := plane.open(t)
			id := newID(newRand(t), 5, 0, testServerID)
			traces := p.traces()
			long := append(dataPacket(id), make([]byte, traceBody)...)
			elsewhere := netip.MustParseAddrPort("203.0.113.77:1")
			for _, tt := range []struct {
				name     string
				frame    frame
				flags    uint8
				limits   func(*bpf.RoamRoamLimits)
				reason   bpf.RoamRoamReason
				captured int // 0: all of it; -1: no trace at all
			}{
				{"main", frame{src: client4, dst: server4, payload: dataPacket(id)}, flagTrace, nil, reasonMain, 0},
				{"candidate", frame{src: elsewhere, dst: server4, payload: dataPacket(id)}, flagTrace, nil, reasonCandidate, 0},
				{"main, policed too", frame{src: client4, dst: server4, payload: dataPacket(id)}, flagTrace | flagPolice, nil, reasonMain, 0},
				{"main, over the police's limit", frame{src: client4, dst: server4, payload: dataPacket(id)}, flagTrace | flagPolice,
					func(l *bpf.RoamRoamLimits) { l.SlotCandidateBurst = 0 }, reasonMainLimit, 0},
				{"candidate, over the limit", frame{src: elsewhere, dst: server4, payload: dataPacket(id)}, flagTrace,
					func(l *bpf.RoamRoamLimits) { l.CandidateBurst = 0 }, reasonCandidateLimit, 0},
				{"VLAN", frame{src: client4, dst: server4, vlans: []uint16{etherVLAN}, payload: dataPacket(id)}, flagTrace, nil, reasonMain, 0},
				{"longer than a record", frame{src: client4, dst: server4, payload: long}, flagTrace, nil, reasonMain, traceBody},
				{"not traced", frame{src: client4, dst: server4, payload: dataPacket(id)}, 0, nil, reasonMain, -1},
				{"candidate, not traced", frame{src: elsewhere, dst: server4, payload: dataPacket(id)}, 0, nil, reasonCandidate, -1},
				{"policed, not traced", frame{src: client4, dst: server4, payload: dataPacket(id)}, flagPolice, nil, reasonMain, -1},
			} {
				t.Run(tt.name, func(t *testing.T) {
					p := p.on(t)
					p.forget()
					p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, flags: tt.flags, path: client4})
					limits := p.cfg.Limits
					if tt.limits != nil {
						p.configure(func(c *bpf.RoamRoamConfig) { tt.limits(&c.Limits) })
						defer p.configure(func(c *bpf.RoamRoamConfig) { c.Limits = limits })
					}
					in := tt.frame.bytes()
					if got := p.run(in).reason; got != tt.reason {
						t.Errorf("reason %d, want %d", got, tt.reason)
					}
					all := traces.read()
					if tt.captured < 0 {
						if len(all) != 0 {
							t.Errorf("%d traces of an id that nobody traces", len(all))
						}
						return
					}
					if len(all) != 1 {
						t.Fatalf("%d traces, want 1", len(all))
					}
					got, captured := all[0], len(in)
					if tt.captured > 0 {
						captured = tt.captured
					}
					if int(got.Length) != len(in) || int(got.Captured) != captured || !bytes.Equal(got.Data[:captured], in[:captured]) {
						t.Errorf("traced %d of %d bytes, want %d of %d: %x", got.Captured, got.Length, captured, len(in), got.Data[:captured])
					}
					now := uint64(monotonic(t)) * 1e9
					if got.Event.Ktime+60e9 < now || got.Event.Ktime > now+2e9 {
						t.Errorf("ktime %d, it is %d", got.Event.Ktime, now)
					}
					got.Event.Ktime = 0
					want := bpf.RoamRoamEvent{
						Id: id.words(), Src: mapped(tt.frame.src.Addr()), Dst: mapped(tt.frame.dst.Addr()),
						Sport: networkOrder(tt.frame.src.Port()), Dport: networkOrder(tt.frame.dst.Port()),
						Stage: uint8(stageXDP), Reason: uint8(tt.reason), Length: uint16(len(tt.frame.payload)), Ifindex: 1,
					}
					if got.Event != want {
						t.Errorf("event %+v\nwant  %+v", got.Event, want)
					}
				})
			}
		})
	}
}

// A flood on a traced id is told of up to a rate, what is lost is counted, and what
// is dropped pushes nothing out that goes on.
func TestTraceLimited(t *testing.T) {
	p := newPlane(t)
	id := newID(newRand(t), 5, 0, testServerID)
	traces := p.traces()
	p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, flags: flagTrace, path: client4})
	const burst, sent = 5, 100
	p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.TraceBurst = burst })
	send := func(from netip.AddrPort, want bpf.RoamRoamReason) {
		t.Helper()
		in := frame{src: from, dst: server4, payload: dataPacket(id)}.bytes()
		for range sent {
			if got := p.run(in).reason; got != want {
				t.Fatalf("reason %d, want %d", got, want)
			}
		}
	}
	p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.CandidateBurst = 0 })
	send(netip.MustParseAddrPort("203.0.113.77:1"), reasonCandidateLimit)
	if got := traces.read(); len(got) != burst {
		t.Errorf("%d dropped packets raised %d traces, the bucket holds %d", sent, len(got), burst)
	}
	send(client4, reasonMain)
	if got := traces.read(); len(got) != burst {
		t.Errorf("%d packets raised %d traces, the bucket holds %d", sent, len(got), burst)
	}
	if got, want := p.tracesLost(), uint64(2*(sent-burst)); got != want {
		t.Errorf("%d traces were lost, want %d", got, want)
	}
}

// A reader that is too slow loses traces and nothing else.
func TestTraceLost(t *testing.T) {
	p := newPlane(t)
	id := newID(newRand(t), 5, 0, testServerID)
	p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, flags: flagTrace, path: client4})
	traces := p.traces()
	in := frame{src: client4, dst: server4, payload: dataPacket(id)}.bytes()
	const n = 1000 // of 2.4 KB each, in 1 MiB
	for range n {
		if got := p.run(in).reason; got != reasonMain {
			t.Fatalf("reason %d, want %d", got, reasonMain)
		}
	}
	got, lost := len(traces.read()), int(p.tracesLost())
	if lost == 0 || got+lost != n {
		t.Errorf("%d traces read and %d lost, of %d", got, lost, n)
	}
}

// The flag costs no packet its AF_XDP socket.
func TestTraceRedirects(t *testing.T) {
	p := newXSKPlane(t)
	id := newID(newRand(t), 5, 0, testServerID)
	p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, flags: flagTrace, path: client4})
	traces := p.traces()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0)
	p.must(err)
	defer unix.Close(fd)
	const thirdInterface = 3 * 64
	p.must(p.objs.Xsks.Put(uint32(thirdInterface), uint32(fd)))
	defer p.objs.Xsks.Delete(uint32(thirdInterface))
	got := p.run(frame{src: client4, dst: server4, payload: dataPacket(id)}.bytes())
	if all := traces.read(); got.action != xdpRedirect || len(all) != 1 || all[0].Event.Reason != uint8(reasonMainXSK) {
		t.Errorf("action %d, %d traces", got.action, len(all))
	}
}

// The socket stage tells of what reaches it, from the IP header on: also of what
// the stack has put together from fragments.
func TestTraceAtTheSocket(t *testing.T) {
	inNamespace(t, func(p *plane) {
		g := newGroup(p)
		defer g.close()
		g.loopbackMTU(1280)
		traces := p.traces()
		home := g.sender("127.0.0.1")
		defer unix.Close(home.fd)
		id := newID(newRand(t), 1, 0, testServerID)
		fragmented := append(dataPacket(id), make([]byte, 3000)...)
		for _, tt := range []struct {
			name    string
			payload []byte
			flags   uint8
		}{{"plain", dataPacket(id), flagTrace}, {"a page of it", fragmented[:1200], flagTrace}, {"fragments", fragmented, flagTrace}, {"not traced", dataPacket(id), 0}} {
			p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, flags: tt.flags, path: home.addr})
			_, err := unix.Write(home.fd, tt.payload)
			p.must(err)
			g.receiver(tt.payload)
			all := traces.read()
			if tt.flags == 0 {
				if len(all) != 0 {
					t.Errorf("%s: %d traces", tt.name, len(all))
				}
				continue
			}
			if len(all) != 1 {
				t.Fatalf("%s: %d traces, want 1", tt.name, len(all))
			}
			got, total := all[0], 28+len(tt.payload)
			if int(got.Length) != total || int(got.Captured) != min(total, 20+traceBody) || got.Event.Stage != uint8(stageSocket) ||
				got.Event.Reason != uint8(reasonMain) || got.Event.Ifindex != 0 {
				t.Errorf("%s: traced %d of %d bytes: %+v", tt.name, got.Captured, got.Length, got.Event)
			}
			if got.Data[0] != 0x45 || !bytes.Equal(got.Data[28:got.Captured], tt.payload[:got.Captured-28]) {
				t.Errorf("%s: data %x", tt.name, got.Data[:got.Captured])
			}
		}
	})
}
