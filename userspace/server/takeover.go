// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// takeoverPackets in a row, all opened by one other worker, make that the
	// session's owner: the kernel's hash, or the NIC's, brings them to it anyway.
	takeoverPackets = 64
	// takeoverPause is the least time between two takeovers of a session: one
	// whose packets come by two queues in turn stays where it is for that long.
	takeoverPause = time.Second
)

// suitor is a worker that opens the packets of another's session.
type suitor struct {
	worker  *worker
	packets int
	// owned is when the session came to its present owner.
	owned session.Time
}

// opened notes who opened a packet of the session. The caller holds s.mu.
func (s *Session) opened(now session.Time, w *worker, reason session.Reason) {
	switch {
	case w == s.worker:
		if s.history != nil {
			s.history.suitor.packets = 0
		}
	case reason > session.Probed: // not authentic, or not new
	case s.past().suitor.worker != w:
		s.history.suitor.worker, s.history.suitor.packets = w, 1
	default:
		suitor := &s.history.suitor
		suitor.packets++
		if suitor.packets >= takeoverPackets && now-suitor.owned >= takeoverPause {
			s.hand(now, w)
		}
	}
}

// hand gives the session to another worker: its timer, its sending, and the
// owner in its slots, by which the data plane steers.
func (s *Session) hand(now session.Time, w *worker) {
	s.worker.wheel.disarm(s)
	s.worker, s.armedFor = w, 0
	s.past().suitor = suitor{owned: now}
	s.state.LocalIDs(func(id wire.ID) {
		if err := s.srv.table.SetOwner(id, w.index); err != nil {
			s.srv.cfg.Log.Error("the owner of an id was not changed", "id", id, "error", err)
		}
	})
	s.arm()
	s.srv.totals.takeovers.Add(1)
}
