// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// earliest keeps the earlier of two times.
type earliest struct {
	at Time
	ok bool
}

func (e *earliest) add(t Time) {
	if !e.ok || t < e.at {
		e.at, e.ok = t, true
	}
}

// Deadline returns when Tick is next due; it may be in the past. ok is false when
// nothing will ever be: the session has ended. Any call may change it. Since most
// packets only put the idle timeouts off, a caller does well to keep a timer that
// is early and ask again when it fires.
func (s *Session) Deadline() (at Time, ok bool) {
	var e earliest
	switch s.state {
	case StateEnded:
		return 0, false
	case StateDraining:
		return s.farewell.at + s.retireAfter(), true
	case StateClosing:
		if s.ctl.closeAcked {
			return s.farewell.at + s.retireAfter(), true
		}
		return s.ctl.next, true
	case StateUnconfirmed:
		if s.role == Server {
			return s.started + halfOpen, true
		}
	}
	e.add(s.lastReceived + s.idleTimeout())
	if k := s.keepalive(); k > 0 && s.state == StateOpen {
		e.add(s.lastSent + k)
	}
	if s.keysBuilt {
		e.add(max(s.lastReceived, s.lastSent) + keyIdle)
	}
	if s.ctl.armed {
		e.add(s.ctl.next)
	}
	if t, ok := s.mtu.probing(); ok {
		e.add(t)
	}
	for i := range s.candidates {
		e.add(min(s.candidates[i].deadline, s.candidates[i].resend.next()))
	}
	for i := range s.departures {
		d := &s.departures[i]
		e.add(d.until + departureRest)
		if d.resend.sent < departureResends {
			e.add(d.resend.next())
		}
	}
	for i := range s.leftPaths() {
		e.add(s.finder.left[i].until)
	}
	if s.localMove != nil {
		e.add(s.localMove.until)
	}
	if t, ok := s.rekeyDeadline(); ok {
		e.add(t)
	}
	if t, ok := s.silenceDeadline(); ok {
		e.add(t)
	}
	if s.race != nil {
		for i := range s.race.runners {
			e.add(s.race.runners[i].next())
		}
	}
	for _, l := range s.local {
		if !l.superseded {
			break // nor are those above it
		}
		e.add(l.heard + s.retireAfter())
	}
	if s.parts != nil && len(s.parts.open) > 0 {
		e.add(s.parts.open[0].begun + partialAge)
	}
	return e.at, e.ok
}

// Tick does what has become due by now. Calling it early or late is harmless: what
// was due several times meanwhile is done once.
func (s *Session) Tick(now Time, out *Output) {
	switch s.state {
	case StateEnded:
		return
	case StateDraining:
		if now >= s.farewell.at+s.retireAfter() {
			s.end(out)
		}
		return
	case StateClosing:
		s.tickControl(now, out)
		if s.ctl.stalled || s.ctl.closeAcked && now >= s.farewell.at+s.retireAfter() {
			s.end(out)
		}
		return
	case StateUnconfirmed:
		if s.role == Server {
			if now >= s.started+halfOpen {
				s.farewell = &farewell{wire.CloseIdle, "the client never confirmed", now}
				s.drain(now, false, out)
			}
			return
		}
	}
	if now >= s.lastReceived+s.idleTimeout() {
		s.Close(now, wire.CloseIdle, "nothing was heard for "+s.idleTimeout().String(), out)
		return
	}
	if s.role == Client {
		if due, ok := s.Deadline(); ok {
			s.noticeJump(now, due, out)
		}
	}
	s.tickCandidates(now, out)
	s.tickDepartures(now, out)
	s.tickLeft(now, out)
	s.tickLocalMove(now, out)
	s.tickRace(now, out)
	s.expireParts(now)
	s.tickMTU(now, out)
	s.tickControl(now, out)
	s.tickSilence(now, out)
	s.retireDue(now)
	s.tickRekey(now, out)
	s.replenish(now, out)
	if k := s.keepalive(); k > 0 && s.state == StateOpen && now >= s.lastSent+k {
		s.ctl.want = true
		s.pushControl(now, out)
	}
	if s.keysBuilt && now >= max(s.lastReceived, s.lastSent)+keyIdle {
		s.releaseKeys()
		s.releasePaths()
		if s.parts != nil && len(s.parts.open) == 0 {
			s.parts = nil
		}
		if !s.ctl.armed {
			s.ctl.pings = nil
		}
	}
	s.guard(now, out)
}

// idleTimeout is how long nothing may be heard. Sending does not count: a peer
// that is gone must not be kept by our own packets.
func (s *Session) idleTimeout() time.Duration {
	if !s.carried {
		return min(s.idle, uselessIdle)
	}
	return s.idle
}
