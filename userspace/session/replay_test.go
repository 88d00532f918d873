// SPDX-License-Identifier: Apache-2.0

package session

import (
	"math/rand/v2"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestReplayWindow(t *testing.T) {
	m := opened(t, 1)
	var pkts [][]byte
	for range replayWindow + 10 {
		pkts = append(pkts, m.craft(&m.c, wire.AppendDatagram(nil, nil)))
	}
	last := len(pkts) - 1
	check := func(n int, want Reason) {
		t.Helper()
		if r := m.inject(addrA, pkts[n]); r != want {
			t.Errorf("packet %d: %v, want %v", n, r, want)
		}
	}
	check(last, Delivered)
	check(last, ReplayDuplicate)
	check(last-2048, Delivered)
	check(last-2048, ReplayDuplicate)
	check(last-replayWindow, Delivered)
	check(last-replayWindow-1, ReplayOld)
	check(0, ReplayOld)
}

// An idle session gives its replay windows back and refuses replays all the same;
// what was sent later comes through in any order.
func TestReplayAfterRest(t *testing.T) {
	m := opened(t, 1)
	var pkts [][]byte
	for range 20 {
		pkts = append(pkts, m.craft(&m.c, wire.AppendDatagram(nil, nil)))
	}
	for _, p := range pkts[:9] {
		m.inject(addrA, p)
	}
	m.run(2 * keyIdle)
	if m.s.findLocal(&m.c.rid.ID).use != nil {
		t.Fatal("the session is not at rest")
	}
	for i, p := range pkts[:9] {
		if r := m.inject(addrX, p); r != ReplayOld {
			t.Errorf("replay of packet %d: %v", i, r)
		}
	}
	for _, i := range []int{19, 12, 9, 15} {
		if r := m.inject(addrA, pkts[i]); r != Delivered {
			t.Errorf("packet %d: %v", i, r)
		}
	}
	for _, i := range []int{9, 12, 19} {
		if r := m.inject(addrA, pkts[i]); r != ReplayDuplicate {
			t.Errorf("packet %d again: %v", i, r)
		}
	}
	if r := m.inject(addrA, pkts[8]); r != ReplayOld {
		t.Errorf("a replay from before the rest: %v", r)
	}
}

// newLocal is an id that is received on.
func newLocal() *localID { return &localID{use: new(receiving)} }

// What waits in the socket of the old path is not lost when packets from the new one
// overtake it, nor what waits among those of candidates when the new path is the
// session's; and nothing is received twice.
func TestReplayOvertaken(t *testing.T) {
	for _, waiting := range []uint64{1, replayWindow, replayWindow + 1, wideWindow - 1000} {
		for _, away := range []bool{true, false} { // the later packets' path
			l := newLocal()
			receive := func(counter uint64, away bool) {
				if r := l.accept(counter, away); r != Delivered {
					t.Fatalf("%d waiting: %d after %d: %v", waiting, counter, l.next, r)
				}
			}
			old := uint64(0)
			for ; old <= busy; old++ {
				receive(old, false)
			}
			overtaking := old + waiting
			receive(overtaking, true)
			for _, ahead := range []uint64{31, 11, 21, 1} { // a train out of order
				for n := range uint64(10) {
					receive(overtaking+ahead+n, away)
				}
			}
			for n := overtaking + 41; old < overtaking; old++ {
				receive(old, !away)
				if old%64 == 0 {
					receive(n, away)
					n++
				}
			}
			for n := range overtaking + 41 {
				if r := l.accept(n, n%2 == 0); r != ReplayDuplicate && r != ReplayOld {
					t.Fatalf("%d waiting: %d was received twice: %v", waiting, n, r)
				}
			}
		}
	}
}

// The wide filter holds what it says, wherever the newest counter lies in its stripes.
func TestReplayWide(t *testing.T) {
	for shift := range uint64(2 * stripes * stripe) {
		l := newLocal()
		at := uint64(100_000) + shift
		l.accept(at, true)
		for _, c := range []struct {
			counter uint64
			want    Reason
		}{
			{at, ReplayDuplicate}, {at - wideWindow, Delivered}, {at - wideWindow, ReplayDuplicate},
			{at - wideWindow + stripes*stripe, Delivered},
		} {
			if r := l.accept(c.counter, false); r != c.want {
				t.Errorf("%d after %d: %v, want %v", c.counter, at, r, c.want)
			}
		}
	}
}

// Whatever the order of counters, none is received twice, none is called a duplicate
// that was not received, and none is old within a window's length of the newest.
func TestReplayAgainstModel(t *testing.T) {
	accepted, wides := 0, 0
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := newLocal()
		received := map[uint64]bool{}
		var at, next, rested uint64 // next is one above the newest; rest refuses what was before
		for range 5000 {
			switch rng.IntN(40) {
			case 0:
				at = next + rng.Uint64N(3*wideWindow/2)
			case 1, 2, 3:
				at = next - min(next, rng.Uint64N(3*wideWindow/2))
			case 4:
				if rng.IntN(20) == 0 {
					l.rest()
					l.use, rested = new(receiving), next
				}
			default:
				at += rng.Uint64N(3)
			}
			r := l.accept(at, rng.IntN(10) == 0)
			switch {
			case r == Delivered && received[at]:
				t.Fatalf("seed %d: %d is received twice", seed, at)
			case r == ReplayDuplicate && !received[at]:
				t.Fatalf("seed %d: %d is called a duplicate of nothing", seed, at)
			case r == ReplayOld && at >= rested && at+replayWindow >= next-1:
				t.Fatalf("seed %d: %d is called old, the newest is %d", seed, at, next-1)
			case r == Delivered:
				received[at], next = true, max(next, at+1)
				accepted++
			}
			if l.use.wide != nil {
				wides++
			}
		}
	}
	if accepted < 200*1000 || wides < 200*1000 {
		t.Errorf("of a million, %d were received, %d beside a wide window: that says little", accepted, wides)
	}
}
