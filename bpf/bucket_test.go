// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// Each bucket lets its burst through, then refuses, by its own reason; a rate
// of zero never refills it, so that nothing here depends on time.
func TestBuckets(t *testing.T) {
	elsewhere := netip.MustParseAddrPort("203.0.113.9:999")
	for _, tt := range []struct {
		name          string
		limit         func(l *bpf.RoamRoamLimits, burst uint32)
		frame         func(s ids) frame
		pass, refusal bpf.RoamRoamReason
	}{
		{"candidate, CPU", func(l *bpf.RoamRoamLimits, n uint32) { l.CandidateBurst = n },
			func(s ids) frame { return frame{src: elsewhere, payload: dataPacket(s.main)} },
			reasonCandidate, reasonCandidateLimit},
		{"candidate, slot", func(l *bpf.RoamRoamLimits, n uint32) { l.SlotCandidateBurst = n },
			func(s ids) frame { return frame{src: elsewhere, payload: dataPacket(s.main)} },
			reasonCandidate, reasonCandidateLimit},
		{"main lane, policed", func(l *bpf.RoamRoamLimits, n uint32) { l.SlotCandidateBurst = n },
			func(s ids) frame { return frame{src: client4, payload: dataPacket(s.policed)} },
			reasonMain, reasonMainLimit},
		{"handshake", func(l *bpf.RoamRoamLimits, n uint32) { l.HandshakeBurst = n },
			func(ids) frame { return frame{src: client4, payload: initPacket()} },
			reasonInit, reasonHandshakeLimit},
		{"handshake, with cookies", func(l *bpf.RoamRoamLimits, n uint32) { l.HandshakeBurst = n },
			func(ids) frame {
				return frame{src: client4, payload: withCookie(initPacket(), testTime, client4, server4)}
			},
			reasonInitCookie, reasonHandshakeLimit},
		{"reset", func(l *bpf.RoamRoamLimits, n uint32) { l.ResetBurst = n },
			func(s ids) frame { return frame{src: client4, payload: dataPacket(s.unknown)} },
			reasonReset, reasonResetLimit},
		{"version", func(l *bpf.RoamRoamLimits, n uint32) { l.VersionBurst = n },
			func(ids) frame { return frame{src: client4, payload: version(7)} },
			reasonInitVersion, reasonVersionLimit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlane(t)
			p.setHandshake(policyNever)
			s := p.populate(client4)
			const burst = 5
			p.configure(func(c *bpf.RoamRoamConfig) { tt.limit(&c.Limits, burst) })
			f := tt.frame(s)
			f.dst = server4
			in := f.bytes()
			for i := range burst {
				if got := p.run(in).reason; got != tt.pass {
					t.Fatalf("packet %d: reason %d, want %d", i, got, tt.pass)
				}
			}
			for i := range 3 {
				if got := p.run(in).reason; got != tt.refusal {
					t.Fatalf("packet %d after the burst: reason %d, want %d", i, got, tt.refusal)
				}
			}
		})
	}
}

// A demanded cookie cannot be asked for by XDP where headers have options; Go
// does it, out of a bucket of its own that leaves the others' alone, as they
// leave it.
func TestBucketSlowInit(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyAlways)
	p.configure(func(c *bpf.RoamRoamConfig) {
		c.Limits.SlowBurst, c.Limits.VersionBurst, c.Limits.HandshakeBurst = 2, 1, 1
	})
	unknown := frame{src: client4, dst: server4, payload: version(7)}.bytes()
	for i, want := range []bpf.RoamRoamReason{reasonInitVersion, reasonVersionLimit} {
		if got := p.run(unknown).reason; got != want {
			t.Errorf("INIT %d of an unknown version: reason %d, want %d", i, got, want)
		}
	}
	slow := frame{src: client4, dst: server4, options: make([]byte, 4), payload: initPacket()}.bytes()
	for i, want := range []bpf.RoamRoamReason{reasonInitSlow, reasonInitSlow, reasonSlowLimit} {
		if got := p.run(slow).reason; got != want {
			t.Errorf("INIT %d with options: reason %d, want %d", i, got, want)
		}
	}
	good := frame{src: client4, dst: server4, payload: withCookie(initPacket(), testTime, client4, server4)}.bytes()
	if got := p.run(good).reason; got != reasonInitCookie {
		t.Errorf("INIT with a cookie: reason %d, want %d", got, reasonInitCookie)
	}
}

// A flood on one id spends no more of its CPU's bucket than its slot lets
// through, and a refusal writes neither.
func TestBucketOneIDCannotStarveOthers(t *testing.T) {
	p := newPlane(t)
	s := p.populate(client4)
	p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.CandidateBurst, c.Limits.SlotCandidateBurst = 4, 2 })
	elsewhere := netip.MustParseAddrPort("203.0.113.9:999")
	send := func(id sessionID) bpf.RoamRoamReason {
		return p.run(frame{src: elsewhere, dst: server4, payload: dataPacket(id)}.bytes()).reason
	}
	for range 10 {
		send(s.main)
	}
	slot := p.slotOf(s.main)
	send(s.main)
	if after := p.slotOf(s.main); after != slot {
		t.Errorf("a refusal changed the slot: %+v, before %+v", after, slot)
	}
	for i, want := range []bpf.RoamRoamReason{reasonCandidate, reasonCandidate, reasonCandidateLimit} {
		if got := send(s.unset); got != want {
			t.Errorf("other id, packet %d: reason %d, want %d", i, got, want)
		}
	}
	// Now it is the CPU's bucket that is empty: a third id's slot stays as it is.
	slot = p.slotOf(s.policed)
	if got := send(s.policed); got != reasonCandidateLimit {
		t.Errorf("third id: reason %d, want %d", got, reasonCandidateLimit)
	}
	if after := p.slotOf(s.policed); after != slot {
		t.Errorf("the CPU's refusal changed the slot: %+v, before %+v", after, slot)
	}
}

// Over a while a bucket lets through its burst and its rate.
func TestBucketRefills(t *testing.T) {
	p := newPlane(t)
	s := p.populate(client4)
	const rate, burst = 2000, 10
	p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.ResetRate, c.Limits.ResetBurst = rate, burst })
	in := frame{src: client4, dst: server4, payload: dataPacket(s.unknown)}.bytes()
	start := time.Now()
	passed := 0
	for time.Since(start) < 300*time.Millisecond {
		if p.run(in).reason == reasonReset {
			passed++
		}
	}
	elapsed := time.Since(start).Seconds()
	// The burst, the rate, and a tick's rounding.
	if most := burst + rate*elapsed*1.02 + 2; float64(passed) > most {
		t.Errorf("%d passed in %.3f s, at most %.0f may", passed, elapsed, most)
	}
	for range 5 {
		time.Sleep(50 * time.Millisecond) // in which it fills, whatever a tick is
		for i := range burst {
			if got := p.run(in).reason; got != reasonReset {
				t.Fatalf("packet %d after a while: reason %d, want %d", i, got, reasonReset)
			}
		}
	}
}

// A rate that is lowered must not shut a bucket for as long as the higher one
// has been in force.
func TestBucketRateChange(t *testing.T) {
	p := newPlane(t)
	s := p.populate(client4)
	in := frame{src: client4, dst: server4, payload: dataPacket(s.unknown)}.bytes()
	for _, rate := range []uint32{1 << 24, 1000, 1, 1 << 20, 0, 5} {
		p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.ResetRate, c.Limits.ResetBurst = rate, 3 })
		if got := p.run(in).reason; got != reasonReset {
			t.Errorf("first packet at %d/s: reason %d, want %d", rate, got, reasonReset)
		}
	}
}
