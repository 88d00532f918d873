// SPDX-License-Identifier: Apache-2.0

package session

import "net/netip"

// localMove is a server's move from one of its own addresses to another. To the
// client it is a move of its peer like any other; to the server the path stays the
// same, since a path is named by the client's address.
type localMove struct {
	from    netip.AddrPort // the address that was left
	rid     *remoteID      // what was sent on from there
	pending bool           // the client has not followed yet
	started Time
	until   Time // to follow; then, to go on answering at the old address
}

// MoveLocal makes a server send from another of its addresses, on the next unused
// id: because the current one is going away, or should. The client has to know the
// address: by SetAddrs, or by addrs, which unless nil go along in its place, with the
// same conditions. Packets that come to the old one are still delivered. The move is
// EventMoveCommitted when the client follows; if it has not within 3 max(PTO, 1 s),
// the session goes back, EventMoveRefused. A client behind a NAT may never hear
// the new address: it finds it by itself, by a Race, when the old one falls
// silent. Errors: ErrNotServer, ErrClosed, ErrNotConfirmed, ErrSamePath, ErrConfig.
func (s *Session) MoveLocal(now Time, local netip.AddrPort, addrs []netip.AddrPort, out *Output) error {
	if local == s.path.Local {
		return ErrSamePath
	}
	if err := s.mayTellAddrs(addrs); err != nil {
		return err
	}
	if addrs != nil {
		s.ctl.addrs = &addrsFrame{addrs: addrs}
	}
	old := s.path
	m := &localMove{from: old.Local, rid: s.rid, pending: true, started: now, until: now + 3*max(s.rtt.pto(), minDeadline)}
	to := old
	to.Local = local
	publish(&s.rid, s.take(to))
	s.enter(to)
	s.localMove = m
	s.forgetRemote()
	s.tally().Started++
	s.tally().LastStarted = now
	out.event(Event{Kind: EventMoveStarted, Path: to, From: old})
	s.ctl.want = true
	s.ctl.restart()
	s.sendControl(now, out, moveSize) // padded: the client's 3x budget, as in Move
	return nil
}

// leftHere reports whether a packet of the current path came to an address of ours
// that we have left.
func (s *Session) leftHere(from Path) bool {
	return s.localMove != nil && from.Local == s.localMove.from && from.Same(s.path)
}

// follow lets the path's address on our side be the one that the peer sends to,
// by its newest packet. While a move of our own is under way it is ours to choose.
func (s *Session) follow(now Time, from Path, out *Output) {
	m := s.localMove
	switch {
	case m == nil:
		s.path.Local = from.Local
	case from.Local == s.path.Local && m.pending:
		m.pending, m.until = false, now+3*max(s.rtt.pto(), minDeadline)
		s.tally().Committed++
		s.tally().LastCommitted = now
		old := s.path
		old.Local = m.from
		out.event(Event{Kind: EventMoveCommitted, Path: s.path, From: old, Took: now - m.started})
	case from.Local != s.path.Local && !m.pending:
		s.path.Local = from.Local // the client has gone elsewhere since
		s.localMove = nil
	}
}

// tickLocalMove ends a move of ours, or takes it back if the client did not follow.
func (s *Session) tickLocalMove(now Time, out *Output) {
	m := s.localMove
	if m == nil || now < m.until {
		return
	}
	s.localMove = nil
	if m.pending {
		tried := s.path
		back := tried
		back.Local = m.from
		s.enter(back)
		s.count(RefusedUnheard)
		s.tally().Refused++
		s.tally().LastRefused = now
		out.event(Event{Kind: EventMoveRefused, Path: tried, From: back, Reason: RefusedUnheard})
		s.ctl.want = true
		s.pushControl(now, out)
	}
	s.forgetRemote()
}
