// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// visit calls f for every session, with its lock held, and where f says that it has
// called the state carries out what that asked for. A batch of sessions is touched,
// visited and its packets sent before the next; after one that has sent something
// next says whether, and by returning when, to go on. Nobody is stopped: sessions
// that come or go meanwhile may be missed.
func (srv *Server) visit(f func(*Session, session.Time, *session.Output) bool, next func() bool) {
	snd := sender{srv: srv, conn: srv.workers[0].conn}
	counts := srv.counts[0]
	batch := make([]*Session, 0, batchSize)
	work := func() bool {
		touchDue(batch)
		now := srv.clock.now()
		for _, s := range batch {
			s.mu.Lock()
			if f(s, now, &snd.out) {
				s.settle(now, &snd.out, counts)
				snd.address(s)
			}
			s.mu.Unlock()
		}
		batch = batch[:0]
		sent := len(snd.out.Packets) > 0
		snd.flush(counts)
		return !sent || next()
	}
	srv.directory.each(func(s *Session) bool {
		batch = append(batch, s)
		return len(batch) < batchSize || work()
	})
	work()
}

const (
	// visitEvery is how often a paced visit sends a batch.
	visitEvery = 2 * time.Millisecond
	// visitLate is how much of what it has missed it makes up for.
	visitLate = 20 * time.Millisecond
)

// pace returns what has visit send a batch each visitEvery until the server closes.
// Clients answer what they are told: a million at once would fill the sockets of
// those who have something to say.
func (srv *Server) pace() (next func() bool, stop func()) {
	t := time.NewTimer(0)
	due := srv.clock.now()
	return func() bool {
		now := srv.clock.now()
		due = max(due+visitEvery, now-visitLate)
		t.Reset(due - now)
		select {
		case <-t.C:
			return true
		case <-srv.ctx.Done():
			return false
		}
	}, func() { t.Stop() }
}
