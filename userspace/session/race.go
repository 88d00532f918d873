// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// maxRunners is the most paths of a race.
	maxRunners = 64
	// raceResends: each path is asked 3 times.
	raceResends = 2
)

// race asks many paths at once whether they lead to the server. The current path
// goes on carrying what it carries.
type race struct{ runners []runner }

// runner is one path of a race.
type runner struct {
	path   Path
	rid    *remoteID
	cookie wire.Cookie
	resend schedule
}

// end is when the runner is given up: twice the time of its last CHALLENGE.
func (r *runner) end() Time { return r.resend.start + r.resend.pto<<raceResends }

func (r *runner) next() Time {
	if r.resend.sent < raceResends {
		return r.resend.next()
	}
	return r.end()
}

// Race asks the server on all the paths at once, three times each: a client calls
// it when its path is silent or its networks changed and it does not know which of
// them lead anywhere. A path has a Socket of its own for each local address, never
// used before, and one of at most MaxRaceServers addresses of the server (see
// Known); the current path may be among them. Each new socket gets a spare id as
// far as they go. The first path to answer wins (EventRaceWon) and the session
// moves there; if none does by twice the time of the last question, EventRaceLost
// tells. While a race runs, further calls add paths; one that runs already starts
// again. Errors: ErrNotClient, ErrClosed, ErrNotConfirmed, ErrTooManyPaths.
func (s *Session) Race(now Time, paths []Path, out *Output) error {
	if err := s.canLead(); err != nil {
		return err
	}
	if len(paths) == 0 || !s.raceHasRoom(paths) {
		return ErrTooManyPaths
	}
	if s.race == nil {
		s.race = new(race)
	}
	for _, p := range paths {
		s.learn(p.Remote)
		i := s.race.find(p)
		if i < 0 {
			i = len(s.race.runners)
			s.race.runners = append(s.race.runners, runner{path: p})
		}
		r := &s.race.runners[i]
		r.rid = s.idForRace(p)
		r.cookie = s.randomCookie(out)
		r.resend = schedule{start: now, pto: s.patience()}
		s.sendChallenge(now, out, p, r.rid, r.cookie)
	}
	return nil
}

// StopRace gives up a race that runs, if one does. EventPathReleased tells of its
// sockets.
func (s *Session) StopRace(now Time, out *Output) { s.endRace(s.path.Socket, out) }

// raceHasRoom reports whether a race may have these paths too.
func (s *Session) raceHasRoom(paths []Path) bool {
	all := slices.Clone(paths)
	if s.race != nil {
		for i := range s.race.runners {
			all = append(all, s.race.runners[i].path)
		}
	}
	servers := map[string]bool{}
	for _, p := range all {
		servers[p.Remote.String()] = true
	}
	return len(all) <= maxRunners && len(servers) <= MaxRaceServers
}

func (r *race) find(p Path) int {
	if r == nil {
		return -1
	}
	return slices.IndexFunc(r.runners, func(x runner) bool { return x.path.Same(p) })
}

// idForRace returns the id to ask on from p: the one of its socket, since one
// address needs but one; the current path's on that; else a spare that no other
// runner has; else the current one.
func (s *Session) idForRace(p Path) *remoteID {
	for i := range s.race.runners {
		if r := &s.race.runners[i]; r.path.Socket == p.Socket && r.rid != nil && s.usable(r.rid) {
			return r.rid
		}
	}
	if p.Socket == s.path.Socket {
		return s.rid
	}
	r := s.spare(p)
	if r == nil {
		s.count(NoSpareID)
		return s.rid
	}
	r.keep(p)
	return r
}

// races reports whether a runner asks on r.
func (s *Session) races(r *remoteID) bool {
	return s.race != nil && slices.ContainsFunc(s.race.runners, func(x runner) bool { return x.rid == r })
}

// raceAnswer acts on RESPONSE or NOT_PREFERRED if it answers a runner; ok is
// false if it does not.
func (s *Session) raceAnswer(now Time, from Path, f *wire.Frame, out *Output) (ok bool) {
	if s.race == nil {
		return false
	}
	i := slices.IndexFunc(s.race.runners, func(x runner) bool { return x.cookie == f.Cookie })
	if i < 0 {
		return false
	}
	r := s.race.runners[i]
	switch {
	case !from.Same(r.path):
		s.count(AnswerElsewhere)
	case f.Type == wire.FrameNotPreferred:
		s.dropRunner(i, out) // the server has left that address of its own
	default:
		s.winRace(now, r, out)
	}
	return true
}

// winRace moves the session to the first path that answered.
func (s *Session) winRace(now Time, r runner, out *Output) {
	out.event(Event{Kind: EventRaceWon, Path: r.path, From: s.path})
	if r.path.Same(s.path) {
		s.endRace(s.path.Socket, out)
		return
	}
	if r.rid.probed {
		r.rid.keep(r.path) // its socket's id is now this path's
	}
	s.moveTo(now, r.path, out) // which ends the race
	if r.resend.sent == 0 {
		s.rtt.sample(now - r.resend.start)
	}
}

// endRace releases the sockets of all runners but keep.
func (s *Session) endRace(keep uint32, out *Output) {
	if s.race == nil {
		return
	}
	runners := s.race.runners
	s.race = nil
	for i := range runners {
		p := runners[i].path
		first := !slices.ContainsFunc(runners[:i], func(x runner) bool { return x.path.Socket == p.Socket })
		if first && p.Socket != keep {
			s.releaseSocket(p, out)
		}
	}
	s.forgetRemote()
}

func (s *Session) dropRunner(i int, out *Output) {
	p := s.race.runners[i].path
	s.race.runners = slices.Delete(s.race.runners, i, i+1)
	if len(s.race.runners) == 0 {
		s.race = nil
		out.event(Event{Kind: EventRaceLost, Path: s.path})
		s.forgetRemote()
	}
	s.releaseSocket(p, out)
}

// tickRace asks again, and gives up those that did not answer.
func (s *Session) tickRace(now Time, out *Output) {
	if s.race == nil {
		return
	}
	for i := len(s.race.runners) - 1; i >= 0; i-- {
		r := &s.race.runners[i]
		switch {
		case now >= r.end():
			s.dropRunner(i, out)
			if s.race == nil {
				return
			}
		case r.resend.sent < raceResends && r.resend.due(now):
			r.resend.sent = min(r.resend.sent, raceResends)
			s.sendChallenge(now, out, r.path, r.rid, r.cookie)
		}
	}
}
