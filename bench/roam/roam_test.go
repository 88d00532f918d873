// SPDX-License-Identifier: Apache-2.0

//go:build linux

package roam

import (
	"testing"
	"time"
)

// A few moves of each kind: each is measured, none before the network allows it,
// and the streams are fast enough to be held to the budget meanwhile.
func TestMoves(t *testing.T) {
	o := Options{Rounds: 1, Moves: 3, Noticed: 2, Rebindings: 2, Progress: func(string) {}}
	all, err := measure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := all.failed(); err != nil {
		t.Error(err)
	}
	wanted := map[kind]int{}
	for _, k := range o.sequence() {
		wanted[k]++
	}
	for k, links := range all[0] {
		for link, roundTrip := range roundTrips {
			if len(links[link]) != wanted[k] {
				t.Errorf("%v: %d moves, %d were wanted", k, len(links[link]), wanted[k])
			}
			held := 0
			for _, s := range links[link] {
				held += s.held
				switch {
				case s.first < 0:
					t.Errorf("%v: first byte %v before the link carried it", k, -s.first)
				case k == none:
				case s.full < -roundTrip || s.seen < roundTrip: // the budget may last for all on a busy machine
					t.Errorf("%v: full rate %v, seen after %v, at a round trip of %v", k, s.full, s.seen, roundTrip)
				}
			}
			if held == 0 && k != none {
				t.Errorf("%v: nothing was held to the budget", k)
			}
		}
	}
	if rows, asides := all.rows(); len(rows) != 2 || rows[0].Row != 20 || rows[1].Row != 20 || len(rows[1].Runs) != 1 || len(asides) != 1 {
		t.Errorf("rows %+v, beside them %+v", rows, asides)
	}
}

// What is called full has nothing missing, and what is missing is counted.
func TestFull(t *testing.T) {
	var s stream
	for seq, at := uint64(0), time.Duration(0); at <= 3*steady; seq, at = seq+1, at+steady/4 {
		if seq == 4 || seq == 6 || seq == 7 {
			continue
		}
		s.arrivals = append(s.arrivals, arrival{seq: seq, sent: at, at: at + 1})
	}
	if a, missing, ok := s.full(0); !ok || a.seq != 8 || missing != 3 {
		t.Errorf("full from %d with %d missing, %v", a.seq, missing, ok)
	}
	if a, ok := s.first(3 * steady / 2); !ok || a.seq != 8 {
		t.Errorf("first %d, %v", a.seq, ok)
	}
	if _, _, ok := s.full(5 * steady / 2); ok {
		t.Error("full for less time than it takes to say so")
	}
}

func TestPercentile(t *testing.T) {
	var s []sample
	for i := range 100 {
		s = append(s, sample{first: time.Duration(100-i) * time.Millisecond})
	}
	first := func(s sample) time.Duration { return s.first }
	for p, want := range map[int]float64{50: 50, 99: 99, 100: 100} {
		if got := percentile(p, s, first); got != want {
			t.Errorf("p%d: %v, want %v", p, got, want)
		}
	}
	if got := percentile(99, s[:1], first); got != 100 {
		t.Errorf("p99 of one: %v", got)
	}
}
