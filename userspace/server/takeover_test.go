// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// feedBy is f with another worker as the one that opens the packets.
func (f *feed) by(w *worker) *feed {
	return &feed{newReader(w, maps.LaneMain, w.conn, new(counters)), f.from}
}

func owners(s *Session) (owners map[uint16]int) {
	owners = make(map[uint16]int)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.LocalIDs(func(id wire.ID) {
		slot, err := s.srv.table.Get(id)
		if err == nil {
			owners[slot.Owner]++
		}
	})
	return owners
}

// The worker that keeps opening a session's packets becomes its owner: in the
// slots, for its timer, for what it sends.
func TestTakeover(t *testing.T) {
	t.Parallel()
	f, s, packets := newFeedOf(t, 2, 100, 10*takeoverPackets)
	srv := s.srv
	first := srv.workers[s.Info().Owner]
	second := srv.workers[1-s.Info().Owner]
	mine, other := f.by(first), f.by(second)
	now := srv.clock.now() + takeoverPause
	feed := func(f *feed, n int) {
		t.Helper()
		for ; n > 0; n -= batchSize / 2 {
			f.batch(now, packets[:batchSize/2])
			packets = packets[batchSize/2:]
		}
	}
	for range 2 { // by both in turn: it stays
		feed(other, takeoverPackets/2)
		feed(mine, batchSize/2)
	}
	if n := srv.Stats().Takeovers; n != 0 || s.Info().Owner != int(first.index) {
		t.Fatalf("%d takeovers, owner %d", n, s.Info().Owner)
	}
	feed(other, takeoverPackets)
	if n := srv.Stats().Takeovers; n != 1 || s.Info().Owner != int(second.index) {
		t.Fatalf("%d takeovers, owner %d", n, s.Info().Owner)
	}
	if got := owners(s); len(got) != 1 || got[second.index] < 3 {
		t.Errorf("slots by owner: %v", got)
	}
	// Back again at once: not before the pause is over.
	feed(mine, 2*takeoverPackets)
	if n := srv.Stats().Takeovers; n != 1 {
		t.Errorf("%d takeovers", n)
	}
	now += takeoverPause
	feed(mine, takeoverPackets)
	if n := srv.Stats().Takeovers; n != 2 || s.Info().Owner != int(first.index) {
		t.Errorf("%d takeovers, owner %d", n, s.Info().Owner)
	}
	// Its timer runs in the new owner's wheel, and in no other.
	for _, w := range srv.workers {
		w.wheel.mu.Lock()
		armed := w.wheel.armed
		w.wheel.mu.Unlock()
		if want := map[bool]int{true: 1}[w == first]; armed != want {
			t.Errorf("worker %d has %d timers, want %d", w.index, armed, want)
		}
	}
	s.Close(wire.CloseDone, "")
	eventually(t, "the session has ended", func() bool { return srv.directory.len() == 0 })
}
