// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"github.com/xdp-roam/xdp-roam/internal/hugepages"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// sweepEvery is how often the whole table is compared with the sessions: it is a
// safety net, and 8 M slots take some 25 ms.
const sweepEvery = time.Minute

// tidy is the janitor: it forgets handshakes that are over, rotates cookie keys,
// retires generations of ids, looks for slots that nobody owns, and puts the memory of
// many sessions on huge pages.
func (srv *Server) tidy() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	orphans := make(map[maps.ID]bool)
	var swept session.Time
	var pages hugepages.Collapser
	for {
		select {
		case <-srv.ctx.Done():
			return
		case <-t.C:
		}
		now := srv.clock.now()
		srv.janitor.begin(now)
		srv.rotateCookies(now)
		srv.retireGenerations(now)
		srv.reviewAddresses()
		srv.forgetAttempts(now)
		if now-swept >= sweepEvery {
			orphans = srv.sweep(orphans)
			srv.Stats() // looks at the sockets' counts before the kernel's can wrap
			swept = now
		}
		pages.Step()
		srv.janitor.end()
	}
}

// forgetAttempts drops the handshakes that have outlived their time. A session that
// was not confirmed ends by its own timer; one that was must not keep its handshake
// in memory for a day.
func (srv *Server) forgetAttempts(now session.Time) {
	for _, s := range srv.attempts.expire(now) {
		s.mu.Lock()
		s.attempt = nil
		s.mu.Unlock()
	}
}

// sweep retires the ids in the table that lead to no session, if they were
// suspected the last time too: an id is in the table a moment before its session
// is found by it, and a moment after. It returns the suspects for the next time.
func (srv *Server) sweep(suspected map[maps.ID]bool) (suspects map[maps.ID]bool) {
	suspects = make(map[maps.ID]bool)
	srv.table.Scan(func(live []maps.SlotInfo) bool {
		for i := range live {
			switch slot := &live[i]; {
			case slot.Kind != kindROAM || srv.directory.at(slot.Slot) != nil:
			case !suspected[slot.ID]:
				suspects[slot.ID] = true
			case srv.table.Retire(slot.ID) == nil:
				srv.totals.orphans.Add(1)
				srv.cfg.Log.Warn("freed an id that no session owned", "id", wire.ID(slot.ID).String())
			}
		}
		return true
	})
	return suspects
}
