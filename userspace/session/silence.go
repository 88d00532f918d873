// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// minSilence bounds from below how long a client waits for anything authentic
	// after sending, before it asks.
	minSilence = 250 * time.Millisecond
	// silentPings unanswered make a silence.
	silentPings = 3
	// flowing is how many datagrams in a row, with none sent between, make a flow that
	// the client only listens to; lull is the pause of one after which it asks. A NAT
	// that has forgotten the client would else be noticed at the next keepalive.
	flowing = 2
	lull    = time.Second
)

// silence notices, on a client, that nothing comes back any more: a path can die
// in one direction only, and no network tells.
type silence struct {
	waiting bool // something was sent since the last authentic packet, or a flow has stopped
	told    bool // EventSilent was
	pings   uint8
	next    Time // of a PING, or of giving up
}

// expect starts the wait for a sign of life, at a packet that has an answer or
// that the application cares for.
func (s *Session) expect(now Time) {
	if s.finder == nil || s.state != StateOpen {
		return
	}
	if q := &s.finder.silence; !q.waiting {
		*q = silence{waiting: true, next: now + s.patience()}
	}
}

// patience is how long a sign of life may take.
func (s *Session) patience() time.Duration { return max(s.rtt.pto(), minSilence) }

// heardPeer ends a silence. It reports whether that brings a lull's time closer: of
// a flow that only the answer to a PING was waited for in.
func (s *Session) heardPeer() (closer bool) {
	if f := s.finder; f != nil {
		closer = f.silence.waiting && f.inRow == flowing
		f.silence = silence{}
	}
	return closer
}

// Asking reports whether a client has begun to ask for a sign of life, because
// none came in time, and has none yet.
func (s *Session) Asking() bool { return s.finder != nil && s.finder.silence.pings > 0 }

// silenceDeadline returns when tickSilence has something to do.
func (s *Session) silenceDeadline() (Time, bool) {
	if s.finder == nil || s.state != StateOpen {
		return 0, false
	}
	f := s.finder
	if !f.silence.waiting && f.inRow == flowing {
		return f.lastDatagram + lull, true
	}
	return f.silence.next, f.silence.waiting && !f.silence.told
}

// listened notes a datagram that came to a client.
func (s *Session) listened(out *Output) {
	if f := s.finder; f != nil && f.inRow < flowing {
		f.inRow++
		out.Rearm = out.Rearm || f.inRow == flowing
	}
}

// tickSilence asks, and after three unanswered PINGs tells. Each PING gets its
// full time from when it was sent: after a pause of the caller, of which the path
// knows nothing, all three are still to come.
func (s *Session) tickSilence(now Time, out *Output) {
	if at, ok := s.silenceDeadline(); !ok || now < at {
		return
	}
	q := &s.finder.silence
	q.waiting, s.finder.inRow = true, 0
	if q.pings == silentPings {
		q.told = true
		out.event(Event{Kind: EventSilent, Path: s.path})
		return
	}
	q.pings++
	q.next = now + s.patience()
	s.renew(now, &s.rid, s.path)
	p := ping{token: s.randomToken(out), at: now, generation: s.pathGeneration}
	start := begin(out, wire.PingLen)
	out.arena = wire.AppendPing(out.arena, p.token)
	if s.finish(now, out, start, s.path, s.rid, false) {
		s.remember(p)
	}
}
