// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Event is something that an operator may want to know, reported to Config.Events. The
// number of events per session is bounded; counters cover all of them.
type Event struct {
	// Name is that of the log line: session_opened, session_closed, session_refused,
	// session_unconfirmed, session_policed, roam_started, roam_committed,
	// roam_refused, roam_reverted, forwarding_alarm, address_lost, address_back,
	// state_rotated, state_retired or draining.
	Name string
	Time time.Time
	// Session is zero, and what follows it too, where the event is not of a session.
	Session wire.ID
	Service uint16
	Worker  int
	// PeerKey and PeerName are known of a refused client, too.
	PeerKey  handshake.PublicKey
	PeerName string
	// Path is the client's address that the event is about: where the session is
	// now, or would go; for address_lost and address_back the server's. From is
	// where the session was, or still is.
	Path, From netip.AddrPort
	Reason     string
}

// tell hands an event on.
func (srv *Server) tell(e Event) {
	if srv.cfg.Events != nil {
		e.Time = srv.clock.wall(srv.clock.now())
		srv.cfg.Events(e)
	}
}

// tell hands an event of the session on. The caller holds s.mu.
func (s *Session) tell(name string, path, from netip.AddrPort, reason string) {
	if s.srv.cfg.Events == nil {
		return
	}
	s.srv.tell(Event{
		Name: name, Session: s.first, Service: s.service, Worker: int(s.worker.index), PeerKey: s.key, PeerName: s.name,
		Path: path, From: from, Reason: reason,
	})
}

// closedBecause says why a session is over, and who wanted it.
func closedBecause(err *ClosedError) string {
	text := err.Code.String()
	if err.Remote {
		text += " (client)"
	}
	if err.Reason != "" {
		text += ": " + err.Reason
	}
	return text
}

// mayTell reports whether there may be another event, or log line, about what the
// session's client, or who forges its packets, can repeat at will. The counters
// tell of all. The caller holds s.mu.
func (s *Session) mayTell(now session.Time) bool {
	if s.past().lines.take(now, moveRate, moveBurst) {
		return true
	}
	s.srv.journal.dropped.Add(1)
	return false
}
