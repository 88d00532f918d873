// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"testing"

	"github.com/xdp-roam/xdp-roam/bpf"
)

func TestEvents(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyAlways)
	p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.EventBurst = plenty })
	s := p.populate(client4)
	events := p.events()
	for _, tt := range []struct {
		name   string
		frame  frame
		id     sessionID
		reason bpf.RoamRoamReason
	}{
		{"candidate", frame{src: randomAddr(newRand(t), client4), dst: server4, payload: dataPacket(s.main)}, s.main, reasonCandidate},
		{"forged", frame{src: client4, dst: server4, payload: dataPacket(s.forged)}, s.forged, reasonForged},
		{"forged, slow path", frame{src: client6, dst: server6, vlans: []uint16{etherVLAN}, payload: dataPacket(s.forged)}, s.forged, reasonForged},
		{"RETRY", frame{src: client6, dst: server6, payload: initPacket()}, sessionID{}, reasonRetry},
		{"short", frame{src: client4, dst: server4, payload: []byte{0x0c}}, sessionID{}, reasonShort},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.on(t)
			p.forget() // so that this one is the first of its reason
			if got := p.run(tt.frame.bytes()).reason; got != tt.reason {
				t.Fatalf("reason %d, want %d", got, tt.reason)
			}
			all := events.read()
			if len(all) != 1 {
				t.Fatalf("%d events, want 1: %+v", len(all), all)
			}
			got := all[0]
			now := uint64(monotonic(t)) * 1e9
			if got.Ktime+60e9 < now || got.Ktime > now+2e9 {
				t.Errorf("ktime %d, it is %d", got.Ktime, now)
			}
			got.Ktime = 0
			want := bpf.RoamRoamEvent{
				Id: tt.id.words(), Src: mapped(tt.frame.src.Addr()), Dst: mapped(tt.frame.dst.Addr()),
				Sport: networkOrder(tt.frame.src.Port()), Dport: networkOrder(tt.frame.dst.Port()),
				Stage: uint8(stageXDP), Reason: uint8(tt.reason), Length: uint16(len(tt.frame.payload)), Ifindex: 1,
			}
			if got != want {
				t.Errorf("event %+v\nwant  %+v", got, want)
			}
		})
	}
}

// Quiet lanes raise none, floods a sample, and the bucket limits them all.
func TestEventsLimited(t *testing.T) {
	p := newPlane(t)
	s := p.populate(client4)
	events := p.events()
	send := func(n int, payload []byte) {
		in := frame{src: client4, dst: server4, payload: payload}.bytes()
		for range n {
			p.run(in)
		}
	}
	p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.EventBurst = plenty })
	send(200, dataPacket(s.main))
	if got := events.read(); len(got) != 0 {
		t.Errorf("the main lane raised %d events", len(got))
	}
	send(129, dataPacket(s.forged))
	if got := events.read(); len(got) != 3 { // the 1st, the 65th, the 129th
		t.Errorf("129 forged ids raised %d events, want 3", len(got))
	}
	p.forget()
	p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.EventBurst = 5 })
	send(100, dataPacket(s.unset)) // a candidate each
	if got := events.read(); len(got) != 5 {
		t.Errorf("100 candidates raised %d events, the bucket holds 5", len(got))
	}
}

// A full ring buffer loses events and nothing else, and says how many.
func TestEventsLost(t *testing.T) {
	p := newPlane(t)
	s := p.populate(client4)
	p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.EventBurst = plenty })
	events := p.events()
	in := frame{src: client4, dst: server4, payload: dataPacket(s.unset)}.bytes()
	const n = 4000 // of 80 bytes each, in 256 KiB
	for range n {
		if got := p.run(in).reason; got != reasonCandidate {
			t.Fatalf("reason %d, want %d", got, reasonCandidate)
		}
	}
	var cpu bpf.RoamRoamCpu
	p.must(p.objs.Cpus.Lookup(p.cpu, &cpu))
	got := len(events.read())
	if cpu.EventsLost == 0 || got+int(cpu.EventsLost) != n {
		t.Errorf("%d events read and %d lost, of %d", got, cpu.EventsLost, n)
	}
}
