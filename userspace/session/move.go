// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// minPreferred bounds from below how long after a switch the old path can still
	// claim the session back: 3 of these.
	minPreferred = 100 * time.Millisecond
	// maxDepartures paths can claim the session back at a time: as many as could
	// have been left within that time.
	maxDepartures = 3
	// departureResends is how often a path that a switch left is asked again, those
	// before the switch counted: mostly nobody is there any more.
	departureResends = 3
	// departureRest is how long a departure whose time is over may be kept. Nothing
	// hangs on it: a session that goes on moving is spared a timer for each move.
	departureRest = 10 * time.Second
	// maxLeft is how many paths a client keeps answering on after it left them.
	maxLeft = 4
)

// departure is a path that a switch has taken the session from. Until its time
// is over its RESPONSE takes the session back: then the new path was a
// forwarder's, and the owner never moved.
type departure struct {
	path   Path
	rid    *remoteID
	local  *localID
	rtt    rtt
	mtu    mtu
	to     Path    // where the session went
	toID   wire.ID // and the id of ours that was committed to it
	cookie wire.Cookie
	resend schedule
	until  Time
}

// leftPath is a path that a client has moved away from itself. It goes on
// answering challenges there, with NOT_PREFERRED.
type leftPath struct {
	path  Path
	rid   *remoteID
	until Time
}

// answer acts on RESPONSE or NOT_PREFERRED. An answer counts only from the
// address that was challenged, whatever its place in the order of packets.
func (s *Session) answer(now Time, from Path, f *wire.Frame, out *Output) {
	response := f.Type == wire.FrameResponse
	for i := range s.candidates {
		c := &s.candidates[i]
		switch f.Cookie {
		case c.cookie:
			switch {
			case !from.Same(c.path):
				s.count(AnswerElsewhere)
			case response:
				s.switchTo(now, i, out)
			default:
				s.dropCandidate(now, i, RefusedLeft, out)
			}
			return
		case c.oldCookie:
			switch {
			case !from.Same(s.path):
				s.count(AnswerElsewhere)
			case !response:
				c.oldLeft = true
			case c.oldLeft:
				s.count(AnswerVoid)
			default:
				s.backOff(now, c.path)
				s.dropCandidate(now, i, RefusedPreferred, out)
			}
			return
		}
	}
	if s.raceAnswer(now, from, f, out) {
		return
	}
	s.expireDepartures(now)
	for i := range s.departures {
		d := &s.departures[i]
		if f.Cookie != d.cookie {
			continue
		}
		switch {
		case !from.Same(d.path):
			s.count(AnswerElsewhere)
		case response:
			s.returnTo(now, i, out)
		default:
			s.departures = slices.Delete(s.departures, i, i+1)
		}
		return
	}
	if a := s.alarm; a != nil && a.open && f.Cookie == a.cookie {
		if !from.Same(a.path) {
			s.count(AnswerElsewhere)
			return
		}
		a.open = false // the current path lives: nothing to do
		return
	}
	s.count(AnswerUnknown)
}

// switchTo puts the session on a candidate that has answered.
func (s *Session) switchTo(now Time, i int, out *Output) {
	c := s.candidates[i]
	s.removeCandidate(i)
	s.expireDepartures(now)
	s.departures = slices.DeleteFunc(s.departures, func(d departure) bool { return d.path.Same(c.path) })
	if !c.oldLeft {
		if len(s.departures) == maxDepartures {
			s.departures = slices.Delete(s.departures, 0, 1)
		}
		s.departures = append(s.departures, departure{
			path: s.path, rid: s.rid, local: s.pathLocal, rtt: s.rtt, mtu: s.mtu,
			to: c.path, toID: c.local.ID, cookie: c.oldCookie, resend: c.resend,
			until: now + 3*max(s.rtt.pto(), minPreferred),
		})
	}
	old := s.path
	publish(&s.rid, c.rid)
	publish(&s.pathLocal, c.local)
	s.enter(c.path)
	if !c.again {
		s.rtt.sample(now - c.resend.start)
	}
	s.tally().Committed++
	s.tally().LastCommitted = now
	out.event(Event{Kind: EventMoveCommitted, Path: s.path, From: old, Took: now - c.resend.start})
	s.commit(out)
	// Its packets are newer than those of other candidates: as from any current
	// path, that cancels them. Newer ones stay: a train of moves goes on.
	for j := len(s.candidates) - 1; j >= 0; j-- {
		if s.candidates[j].newest.before(c.newest) {
			s.dropCandidate(now, j, RefusedCurrent, out)
		}
	}
	s.settled(now, out)
}

// returnTo takes the session back to a path whose owner never left it.
func (s *Session) returnTo(now Time, i int, out *Output) {
	d := s.departures[i]
	for _, later := range s.departures[i:] {
		s.backOff(now, later.to)
	}
	s.departures = slices.Delete(s.departures, i, len(s.departures))
	s.dropCandidates(now, RefusedPreferred, out)
	lost := s.path
	publish(&s.rid, d.rid)
	publish(&s.pathLocal, d.local)
	s.enter(d.path)
	s.rtt, s.mtu = d.rtt, d.mtu
	if s.mtu.search != nil {
		s.mtu.search.probe = 0 // its PING belongs to the time before
	}
	s.tally().Reverted++
	s.tally().LastReverted = now
	s.count(RefusedPreferred)
	out.event(Event{Kind: EventMoveReverted, Path: s.path, From: lost, Reason: RefusedPreferred})
	if s.role == Server && d.toID != d.local.ID {
		// The loser's packets leave the main lane too.
		out.Commits = append(out.Commits, Commit{d.toID, s.path})
	}
	s.commit(out)
	s.settled(now, out)
}

// enter makes p the current path: nothing that was measured holds any more.
func (s *Session) enter(p Path) {
	s.path = p
	s.pathGeneration++
	s.rtt.reset()
	s.heardPeer() // a silence was the other path's
	s.mtu.reset(p)
	if s.alarm != nil {
		s.alarm.open = false
	}
	s.localMove = nil
}

// settled finishes a change of path: remaining candidates are held against the
// new one, and a PING measures it and tells the peer where we see it.
func (s *Session) settled(now Time, out *Output) {
	s.settle(now)
	for i := range s.candidates {
		c := &s.candidates[i]
		c.oldCookie, c.oldLeft = s.randomCookie(out), false
		s.sendChallenge(now, out, s.path, s.rid, c.oldCookie)
	}
	s.ctl.observe = s.role == Server
	s.ctl.want = true
	s.sendControl(now, out, 0)
}

// commit tells the server's slot table that pathLocal is at home on the path.
func (s *Session) commit(out *Output) {
	if s.role == Server {
		out.Commits = append(out.Commits, Commit{s.pathLocal.ID, s.path})
	}
}

// tickDepartures asks old paths again.
func (s *Session) tickDepartures(now Time, out *Output) {
	if s.expireDepartures(now) {
		s.forgetRemote()
	}
	for i := len(s.departures) - 1; i >= 0; i-- {
		if d := &s.departures[i]; d.resend.sent < departureResends && d.resend.due(now) {
			s.sendChallenge(now, out, d.path, d.rid, d.cookie)
		}
	}
}

// expireDepartures lets go of the old paths whose time is over. It reports whether
// there were any.
func (s *Session) expireDepartures(now Time) bool {
	n := len(s.departures)
	s.departures = slices.DeleteFunc(s.departures, func(d departure) bool { return now > d.until })
	return len(s.departures) < n
}

// Move makes a client send from another path from now on, on the next unused id:
// to has another Socket, or another known Remote, than the current path. Packets
// that come to the old path are still delivered and challenges there answered
// with NOT_PREFERRED, until EventPathReleased. It fails with ErrClosed,
// ErrNotConfirmed (open a new session instead), ErrSamePath, or ErrNotClient.
func (s *Session) Move(now Time, to Path, out *Output) error {
	if err := s.canLead(); err != nil {
		return err
	}
	if to.Same(s.path) {
		return ErrSamePath
	}
	s.moveTo(now, to, out)
	return nil
}

// moveTo moves a client.
func (s *Session) moveTo(now Time, to Path, out *Output) {
	s.endRace(to.Socket, out)
	s.dropCandidates(now, RefusedMoved, out)
	s.departures = nil
	pto := s.rtt.pto()
	// A path that we come back to is left no more.
	s.finder.left = slices.DeleteFunc(s.finder.left, func(l leftPath) bool { return l.path.Same(to) })
	if len(s.leftPaths()) == maxLeft {
		s.release(0, out)
	}
	old := s.path
	s.finder.left = append(s.finder.left, leftPath{old, s.rid, now + 3*max(pto, minDeadline)})
	s.learn(to.Remote)
	publish(&s.rid, s.take(to))
	s.enter(to)
	s.forgetRemote()
	s.finder.movedFrom = &old
	s.tally().Started++
	s.tally().LastStarted = now
	out.event(Event{Kind: EventMoveStarted, Path: to, From: old})
	s.ctl.want = true
	s.ctl.restart()
	// Padded, so that the server's 3x budget lets data flow to the new path at once.
	s.sendControl(now, out, moveSize)
}

// moveSize is the UDP payload of the first packet on a new path.
const moveSize = 1200

// leftPaths returns the paths that a client has left; a server has none.
func (s *Session) leftPaths() []leftPath {
	if s.finder == nil {
		return nil
	}
	return s.finder.left
}

// findLeft returns the left path that p is, or whose socket p came to.
func (s *Session) findLeft(p Path) *leftPath {
	for i := range s.leftPaths() {
		l := &s.finder.left[i].path
		if l.Same(p) || l.Socket == p.Socket && p.Socket != s.path.Socket {
			return &s.finder.left[i]
		}
	}
	return nil
}

// release forgets a left path. Its socket may be the current one's, when the
// client moved to another address of the server.
func (s *Session) release(i int, out *Output) {
	p := s.finder.left[i].path
	s.finder.left = slices.Delete(s.finder.left, i, i+1)
	if len(s.leftPaths()) == 0 {
		s.finder.left = nil
	}
	s.forgetRemote()
	s.releaseSocket(p, out)
}

// releaseSocket tells that nothing needs the socket of p any more, if so.
func (s *Session) releaseSocket(p Path, out *Output) {
	racing := s.race != nil && slices.ContainsFunc(s.race.runners, func(r runner) bool { return r.path.Socket == p.Socket })
	if p.Socket == s.path.Socket || s.findLeft(p) != nil || racing {
		return
	}
	out.event(Event{Kind: EventPathReleased, Path: p})
}

func (s *Session) tickLeft(now Time, out *Output) {
	for i := len(s.leftPaths()) - 1; i >= 0; i-- {
		if now >= s.finder.left[i].until {
			s.release(i, out)
		}
	}
}
