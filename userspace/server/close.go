// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// goodbyeWait bounds how long Close waits for clients to acknowledge that the
	// server shuts down.
	goodbyeWait = time.Second
	// goodbyePTOs is how long it waits for one client at most: its CLOSE has then
	// gone out three times, 1 and 3 PTO after the first.
	goodbyePTOs = 7
	// drainLook is how often Drain looks for sessions.
	drainLook = 20 * time.Millisecond
)

// drainReason is what a client is told that comes to a server that is about to end.
const drainReason = "the server is about to shut down and takes no new sessions"

// Drain refuses new sessions from now on and waits until the last one has ended.
// It fails with ctx's error, or with ErrClosed: sessions are left then, and new
// ones are refused all the same. The caller goes on to Close.
func (srv *Server) Drain(ctx context.Context) error {
	if !srv.draining.Swap(true) {
		srv.tell(Event{Name: "draining", Reason: "new sessions are refused"})
		srv.cfg.Log.Info("draining: new sessions are refused", "sessions", srv.directory.len())
	}
	t := time.NewTicker(drainLook)
	defer t.Stop()
	for srv.directory.len() > 0 {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-srv.ctx.Done():
			return ErrClosed
		}
	}
	return nil
}

// Draining reports whether Drain has been called.
func (srv *Server) Draining() bool { return srv.draining.Load() }

// Close tells every client that the server shuts down, again until it has
// acknowledged that or has had a second for it, gives the slots back and returns
// when no goroutine of the server is left, but for the one that writes the log if
// nobody has read that for a second. Later calls return the same.
func (srv *Server) Close() error {
	srv.closeOnce.Do(func() {
		srv.cancel()
		srv.openersWG.Wait() // so that no session begins any more
		all := func(*Session) (string, bool) { return "the server is shutting down", true }
		untold := srv.awaitGoodbyes(srv.closeSessions(wire.CloseShuttingDown, all))
		srv.end()
		srv.keepersWG.Wait()
		srv.closeErr = srv.closeSockets()
		srv.readersWG.Wait()
		srv.endTraces()
		srv.dropJobs()
		srv.retireAll()
		srv.cfg.Log.Info("stopped", "address", srv.addr, "clients_not_reached", untold)
		srv.journal.close()
	})
	return srv.closeErr
}

// goodbye is a session whose client has been told of its end.
type goodbye struct {
	session *Session
	at      session.Time
}

// closeSessions closes every session that which chooses, called with its lock held,
// in batches of packets, and returns those whose clients have to acknowledge it.
func (srv *Server) closeSessions(code wire.CloseCode, which func(*Session) (reason string, chosen bool)) (told []goodbye) {
	srv.visit(func(s *Session, now session.Time, out *session.Output) bool {
		reason, chosen := which(s)
		if chosen {
			s.state.Close(now, code, reason, out)
			if s.state.State() == session.StateClosing {
				told = append(told, goodbye{s, now})
			}
		}
		return chosen
	}, func() bool { return true })
	return told
}

// awaitGoodbyes returns when every client has acknowledged, or had its time, and
// how many did not. The timekeepers send again meanwhile, the readers take the
// answers.
func (srv *Server) awaitGoodbyes(open []goodbye) (untold int) {
	deadline := srv.clock.now() + goodbyeWait
	for pause := time.Millisecond; len(open) > 0; pause = min(2*pause, 10*time.Millisecond) {
		now := srv.clock.now()
		open = slices.DeleteFunc(open, func(g goodbye) bool {
			told, over := g.state(now)
			if over && !told {
				untold++
			}
			return told || over
		})
		if len(open) == 0 || now >= deadline {
			break
		}
		time.Sleep(pause)
	}
	return untold + len(open)
}

// state reports whether the client has acknowledged, and whether its time is over.
func (g goodbye) state(now session.Time) (told, over bool) {
	s := g.session
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.CloseAcknowledged(), now >= g.at+goodbyePTOs*s.state.Info().PTO
}

// dropJobs counts the INITs that nobody has taken up.
func (srv *Server) dropJobs() {
	for {
		select {
		case <-srv.jobs:
			srv.counts[0].packets[HandshakeBusy].Add(1)
		default:
			return
		}
	}
}

// retireAll frees the slots of sessions that were still saying goodbye.
func (srv *Server) retireAll() {
	srv.directory.each(func(s *Session) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		var ids []wire.ID
		s.state.LocalIDs(func(id wire.ID) { ids = append(ids, id) })
		for _, id := range ids {
			(*issuer)(s).Retire(id)
		}
		s.endTaps()
		return true
	})
}
