// SPDX-License-Identifier: Apache-2.0

package session

import "time"

// clockJump is how late a Tick must be for the clock, not the caller, to be the
// cause: the machine slept. Where the clock stands still meanwhile the caller
// notices by the wall clock, and calls Resume.
const clockJump = 5 * time.Second

// noticeJump looks for a jump of the clock since the last call; due is when Tick
// should have come.
func (s *Session) noticeJump(now, due Time, out *Output) {
	if s.role == Client && s.state == StateOpen && now-due >= clockJump {
		s.Resume(now, out)
	}
}

// Resume tells a client that its machine has slept, or that the clock jumped, so
// that nothing is known of the path: it asks at once, on a fresh id if that leaves one
// for a move, and reports EventClockJump. A race that ran ends without a result; the caller may Race anew.
// It fails with ErrNotClient, ErrClosed or ErrNotConfirmed.
func (s *Session) Resume(now Time, out *Output) error {
	if err := s.canLead(); err != nil {
		return err
	}
	s.endRace(s.path.Socket, out) // its sockets are of yesterday's networks
	out.event(Event{Kind: EventClockJump, Path: s.path})
	s.rotateSparing()
	s.heardPeer() // what was waited for before the pause says nothing
	return s.Ping(now, out)
}
