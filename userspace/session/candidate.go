// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// maxCandidates paths are validated at a time; a further one replaces the
	// oldest.
	maxCandidates = 3
	// minDeadline bounds the validation of a candidate from below: 3 of these.
	minDeadline = time.Second
	// maxAskAgain bounds askAgain.
	maxAskAgain = 100 * time.Millisecond
)

// mark orders the peer's packets: by its id's seq, then by counter.
type mark struct{ seq, counter uint32 } // counters end at 2^28

func (m mark) before(n mark) bool {
	return m.seq < n.seq || m.seq == n.seq && m.counter < n.counter
}

// Newest reports whether the packet that came on the id with that counter is the
// newest of the session that is not probing: what followed it, if anything, was sent
// before it.
func (s *Session) Newest(id *wire.ID, counter uint64) bool {
	in := s.findLocal(id)
	return in != nil && s.heardAny && s.newest.seq == in.Seq && uint64(s.newest.counter) == counter
}

// schedule is when a CHALLENGE is sent again: 1, 2, 4, 8 PTO after the first and so on,
// for as long as its answer would count. A path that loses the first few must not look
// like one that nobody is on.
type schedule struct {
	start, pto Time
	sent       int // resends so far
}

// next is when the next resend is due.
func (c *schedule) next() Time { return c.start + c.pto<<c.sent }

// due takes one resend if its time has come.
func (c *schedule) due(now Time) bool {
	if now < c.next() {
		return false
	}
	// After a pause of the caller several may be due: one packet does for all.
	for now >= c.next() {
		c.sent++
	}
	return true
}

// candidate is a path that the newest authentic packet came from, while it is
// being validated beside the current path.
type candidate struct {
	path Path
	// rid is the peer's id that we send on to it: a fresh one if the peer came on a
	// newer id, so that the two networks share none; else the current path's.
	rid *remoteID
	// local is the newest id of ours that came from it: what a commit is for.
	local *localID
	// newest orders candidates: data goes to the one heard of last.
	newest mark
	ledger ledger

	// cookie was sent to the candidate, oldCookie to the current path. They differ,
	// so that neither answer can pass for the other.
	cookie, oldCookie wire.Cookie
	// oldLeft: the current path answered NOT_PREFERRED; its RESPONSE counts no more.
	oldLeft  bool
	resend   schedule
	deadline Time
	// asked is when cookie was last sent; again that it was sent more than once, so
	// that its answer is no RTT sample.
	asked Time
	again bool
}

// askAgain is the pause after which a new packet from a candidate gets a
// CHALLENGE again. Half a round trip: often enough that a candidate whose
// challenges were lost is settled by its next packet instead of by the schedule,
// rarely enough to cost little while the first answer is under way. It is bounded
// because a relay can make the estimate as long as it likes.
func (s *Session) askAgain() time.Duration {
	if !s.rtt.valid() {
		return maxAskAgain
	}
	return min(max(s.rtt.srtt()/2, minVariation), maxAskAgain)
}

// gate lets an authentic, new, non-probing packet of length n move the path, if
// it is strictly the newest of the session. A candidate that it makes gets its
// CHALLENGE with the answers in out.source.
func (s *Session) gate(now Time, from Path, in *localID, counter uint64, n int, out *Output) {
	m := mark{in.Seq, uint32(counter)}
	elsewhere := !from.Same(s.path)
	if s.heardAny && !s.newest.before(m) {
		if elsewhere {
			s.count(NotNewest)
		}
		return
	}
	s.newest, s.heardAny = m, true
	s.supersede(now, in.Seq)
	if !elsewhere {
		s.follow(now, from, out)
		s.dropCandidates(now, RefusedCurrent, out)
		if in.Seq > s.pathLocal.Seq {
			publish(&s.pathLocal, in)
			s.commit(out)
			// Follow the peer to a new id, so that both directions change together. Only
			// if we are behind: an end that has gone ahead itself must not be chased.
			if in.Seq > s.rid.Seq {
				s.owe(now, s.rid.Seq+1, nil)
			}
		}
		s.payOwed(now)
		return
	}
	if c := s.findCandidate(from); c != nil {
		c.path.Local = from.Local
		c.newest = m
		if in.Seq > c.local.Seq {
			c.local = in
			if c.rid == s.rid {
				c.rid = s.take(from)
			}
		}
		if now >= c.asked+s.askAgain() {
			c.asked, c.again = now, true
			out.source = wire.AppendChallenge(out.source, c.cookie)
		}
		return
	}
	if r := s.mayMove(now, from); r != Delivered {
		s.count(r)
		return
	}
	s.addCandidate(now, from, in, m, n, out)
}

// mayMove returns Delivered if from may become a candidate, else why not.
func (s *Session) mayMove(now Time, from Path) Reason {
	if s.role == Client {
		// The server's packets still come to sockets that we have left: no move.
		if from.Socket != s.path.Socket {
			return LeftPath
		}
		if !s.knows(from.Remote) {
			return UnknownServer
		}
	}
	if s.backedOff(now, from) {
		return BackedOff
	}
	return Delivered
}

func (s *Session) findCandidate(p Path) *candidate {
	for i := range s.candidates {
		if s.candidates[i].path.Same(p) {
			return &s.candidates[i]
		}
	}
	return nil
}

// lead returns the candidate heard of last, to which data flows, or nil.
func (s *Session) lead() *candidate {
	var lead *candidate
	for i := range s.candidates {
		if c := &s.candidates[i]; lead == nil || lead.newest.before(c.newest) {
			lead = c
		}
	}
	return lead
}

func (s *Session) addCandidate(now Time, from Path, in *localID, m mark, n int, out *Output) {
	if len(s.candidates) == maxCandidates {
		oldest := 0
		for i := range s.candidates {
			if s.candidates[i].resend.start < s.candidates[oldest].resend.start {
				oldest = i
			}
		}
		s.dropCandidate(now, oldest, RefusedReplaced, out)
	}
	pto := s.rtt.pto()
	cookies := s.random(2*len(wire.Cookie{}), out)
	c := candidate{
		path: from, rid: s.safe(), local: in, newest: m,
		cookie: wire.Cookie(cookies[:16]), oldCookie: wire.Cookie(cookies[16:]),
		resend:   schedule{start: now, pto: pto},
		deadline: now + 3*max(pto, minDeadline),
		asked:    now,
	}
	if in.Seq > s.pathLocal.Seq {
		c.rid = s.take(from)
	}
	c.ledger.received = uint64(n)
	s.roam()
	s.candidates = append(s.candidates, c)
	s.tally().Started++
	s.tally().LastStarted = now
	out.event(Event{Kind: EventMoveStarted, Path: from, From: s.path})
	// The first packet from an address is at least 41 bytes, so its budget always
	// has room for this.
	out.source = wire.AppendChallenge(out.source, c.cookie)
	s.sendChallenge(now, out, s.path, s.rid, c.oldCookie)
}

// dropCandidate ends a validation: the session stays on the current path.
func (s *Session) dropCandidate(now Time, i int, why Reason, out *Output) {
	c := s.candidates[i]
	s.count(why)
	s.tally().Refused++
	s.tally().LastRefused = now
	out.event(Event{Kind: EventMoveRefused, Path: c.path, From: s.path, Reason: why})
	s.removeCandidate(i)
	if !s.pathNeeds(c.rid) || c.rid.Seq == s.sentSeq && c.rid != s.rid {
		// Its id stays with its address, in case it comes back.
		c.rid.keep(c.path)
	}
	s.settle(now)
}

func (s *Session) removeCandidate(i int) {
	s.candidates = slices.Delete(s.candidates, i, i+1)
}

// moving is the memory of what a move takes, in one piece: a session that moves is
// mostly in no cache, and each piece is a miss of its own.
type moving struct {
	candidates [1]candidate
	departures [1]departure
	pings      [2]ping
}

// roam makes a session that moves ready for it.
func (s *Session) roam() {
	if s.candidates != nil || s.departures != nil {
		return // it was, or is under way
	}
	m := new(moving)
	s.candidates, s.departures = m.candidates[:0], m.departures[:0]
	if s.ctl.pings == nil {
		s.ctl.pings = m.pings[:0]
	}
}

// releasePaths gives back the memory of paths that come and go. A session that
// moves keeps it from one move to the next; most have none.
func (s *Session) releasePaths() {
	if len(s.candidates) == 0 {
		s.candidates = nil
	}
	if len(s.departures) == 0 {
		s.departures = nil
	}
}

func (s *Session) dropCandidates(now Time, why Reason, out *Output) {
	for len(s.candidates) > 0 {
		s.dropCandidate(now, len(s.candidates)-1, why, out)
	}
}

// tickCandidates sends challenges again and ends validations that nobody
// answered.
func (s *Session) tickCandidates(now Time, out *Output) {
	for i := len(s.candidates) - 1; i >= 0; i-- {
		c := &s.candidates[i]
		if now >= c.deadline {
			s.dropCandidate(now, i, RefusedTimeout, out)
			continue
		}
		if !c.resend.due(now) {
			continue
		}
		s.renew(now, &c.rid, c.path)
		s.renew(now, &s.rid, s.path)
		if s.sendChallenge(now, out, c.path, c.rid, c.cookie) {
			c.asked, c.again = now, true
		}
		if !c.oldLeft {
			s.sendChallenge(now, out, s.path, s.rid, c.oldCookie)
		}
	}
}
