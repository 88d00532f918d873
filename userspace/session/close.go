// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// farewell is why a session is over, and since when: its ids stay reserved for a
// while from then on.
type farewell struct {
	code wire.CloseCode
	text string
	at   Time
}

// Close ends the session and tells the peer. A reason longer than
// wire.MaxReason bytes is cut. The caller goes on calling Receive and Tick until
// EventEnded, so that the CLOSE is sent again if it was lost and late packets
// meet silence. A closed session stays as it is.
func (s *Session) Close(now Time, code wire.CloseCode, reason string, out *Output) {
	if s.state > StateOpen {
		return
	}
	s.farewell = &farewell{code, reason, now}
	if s.canSend() != nil {
		s.drain(now, false, out) // a server may not send before it is confirmed
		return
	}
	s.dropCandidates(now, RefusedMoved, out)
	s.state = StateClosing
	out.event(Event{Kind: EventClosed, Path: s.path, Code: code, Text: reason})
	s.pushControl(now, out)
}

// CloseAcknowledged reports whether the peer is known to have heard of the end: it
// acknowledged our CLOSE, or sent its own. It is also true of a session that had
// nobody to tell, or has given up telling. Whoever closes may then go away; what
// comes after only spares the peer a reset.
func (s *Session) CloseAcknowledged() bool { return s.ctl.closeAcked || s.state > StateClosing }

// drain makes the session silent: its ids live on for a while, so that nothing of
// it is answered by a reset.
func (s *Session) drain(now Time, remote bool, out *Output) {
	closing := s.state == StateClosing
	s.dropCandidates(now, RefusedMoved, out)
	s.state = StateDraining
	s.farewell.at = now
	s.ctl.restart()
	if !closing {
		out.event(Event{Kind: EventClosed, Path: s.path, Remote: remote, Code: s.farewell.code, Text: s.farewell.text})
	}
}

// receiveClosing handles an authentic packet after our own CLOSE: its PONG ends
// the wait; the peer's CLOSE, crossing ours, gets its PONG once.
func (s *Session) receiveClosing(now Time, plain []byte, out *Output) Reason {
	f := &out.frame
	if wire.CheckFrames(plain) != nil {
		return AfterClose
	}
	out.home = out.home[:0]
	closing := false
	for r := wire.NewFrameReader(plain); r.Next(f); {
		switch f.Type {
		case wire.FramePing:
			out.home = wire.AppendPong(out.home, f.Token)
		case wire.FramePong:
			s.pong(now, f.Token)
		case wire.FrameClose:
			closing = true
		}
	}
	if closing {
		s.sendFrames(now, out, s.path, s.rid, out.home, false)
		s.drain(now, true, out)
	}
	return AfterClose
}

// end retires every id. Nothing is left but counters.
func (s *Session) end(out *Output) {
	for _, l := range s.local {
		s.giveUp(l)
	}
	s.releaseKeys()
	s.local, s.remote, s.sentSeq = nil, []*remoteID{s.rid}, s.rid.Seq
	s.candidates, s.departures, s.backoffs = nil, nil, nil
	s.parts = nil
	for len(s.leftPaths()) > 0 {
		s.release(0, out)
	}
	s.c2s, s.s2c, s.epoch.change = [32]byte{}, [32]byte{}, nil
	s.endRace(s.path.Socket, out)
	s.state = StateEnded
	out.event(Event{Kind: EventEnded, Path: s.path})
	s.ctl.pings = slices.Clip(s.ctl.pings[:0])
}
