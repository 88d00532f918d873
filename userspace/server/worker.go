// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// worker owns sessions: their timers are in its wheel, the data plane brings
// their packets to its sockets.
type worker struct {
	srv    *Server
	index  uint16
	wheel  *wheel
	conn   netio.Conn // its main socket, to send from
	counts *counters  // of what its sessions do unasked
	work   work
}

// keepTime ticks the worker's sessions when their deadlines come.
func (w *worker) keepTime() {
	srv := w.srv
	snd := sender{srv: srv, conn: w.conn}
	var due []*Session
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-srv.ended.Done():
			return
		case <-w.wheel.wake:
		case <-t.C:
		}
		now := srv.clock.now()
		w.work.begin(now)
		due = w.tick(now, &snd, due[:0])
		w.work.end()
		t.Reset(w.wheel.sleep() - srv.clock.now())
	}
}

// tick ticks the sessions whose deadlines have come. due is memory for them.
func (w *worker) tick(now session.Time, snd *sender, due []*Session) []*Session {
	due = w.wheel.expire(now, due)
	for i, s := range due {
		if i%batchSize == 0 {
			touchDue(due[i:min(i+batchSize, len(due))])
		}
		s.mu.Lock()
		s.armedFor = 0
		if at, ok := s.state.Deadline(); ok && at <= now {
			s.state.Tick(now, &snd.out)
		}
		s.settle(now, &snd.out, w.counts)
		snd.address(s)
		s.mu.Unlock()
		if len(snd.out.Packets) >= batchSize {
			snd.flush(w.counts)
		}
	}
	clear(due)
	snd.flush(w.counts)
	return due
}
