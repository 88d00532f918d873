// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// rotate moves our sending on the current path to the next unused id. It reports
// whether there was one. One that was seen elsewhere is none: where nothing moves,
// keeping the current id links nothing.
func (s *Session) rotate() bool {
	if fresh, _ := s.unseen(s.path); fresh == nil {
		return false
	}
	return s.rotateAnyhow()
}

// rotateAnyhow also takes an id that was seen elsewhere.
func (s *Session) rotateAnyhow() bool {
	if s.spare(s.path) == nil {
		return false
	}
	publish(&s.rid, s.take(s.path))
	s.forgetRemote()
	return true
}

// rotateSparing does if that leaves an unused id for a move. All ids below the new one
// are lost: until the peer has heard of that and issued others, a move would have to
// show an old one on the new network. An id that a runner asks on is none for others.
func (s *Session) rotateSparing() bool {
	unused := 0
	for _, r := range s.remote {
		if !r.taken && !r.probed && s.usable(r) && r.Seq > s.unusedAbove() && !s.races(r) {
			unused++
		}
	}
	return unused > 1 && s.rotate()
}

// maxOwed is how long a rotation waits for another id: as long as a validation may take.
// A peer that issues none, or does not know that a probe used one up, must not keep us
// on an id for ever.
func (s *Session) maxOwed() time.Duration { return 3 * max(s.rtt.pto(), minDeadline) }

// owed is a change of ids on the current path that waits until it costs a move nothing.
type owed struct {
	seq uint32 // our sending is to go on to this one
	by  Time   // and then whatever it costs
	// leave, if any, is the id of ours that the peer is to leave: it is done when that is.
	leave *localID
}

func (s *Session) owe(now Time, seq uint32, leave *localID) {
	s.owed = &owed{seq, now + s.maxOwed(), leave}
}

// payOwed takes our sending on as far as it goes. It is for when a newest packet has
// come on the current path: one from elsewhere may begin a move, and where none comes
// nobody sees our ids.
func (s *Session) payOwed(now Time) {
	o := s.owed
	if o == nil {
		return
	}
	if o.leave != nil && o.leave != s.pathLocal {
		s.owed = nil // it moved on by itself
		return
	}
	if s.rid.Seq >= o.seq && o.leave != nil && now >= o.by+s.maxOwed() {
		s.owe(now, s.rid.Seq+1, o.leave) // it did not come along, though it may have waited
		o = s.owed
	}
	for s.rid.Seq < o.seq {
		sparing := s.rotateSparing()
		if !sparing && (now < o.by || !s.rotate()) {
			break
		}
		if !sparing || o.leave != nil {
			s.ctl.want, s.urgent = true, true // the peer is to see the newer id
		}
	}
	if s.rid.Seq >= o.seq && o.leave == nil {
		s.owed = nil
	}
}

// Leave has the peer leave an id of ours, if that is the one it sends on, for another
// that nobody has seen: someone else's packets on it are a burden. Our own sending goes
// to a newer id and the peer follows: one round trip later if there are unused ids, else
// when there are. It fails with ErrClosed or ErrNotConfirmed.
func (s *Session) Leave(now Time, id wire.ID, out *Output) error {
	if err := s.canSend(); err != nil {
		return err
	}
	if s.pathLocal.ID != id || s.owed != nil && s.owed.leave == s.pathLocal {
		return nil
	}
	// The peer follows to no id below its own.
	s.owe(now, max(s.rid.Seq, s.pathLocal.Seq)+1, s.pathLocal)
	s.payOwed(now)
	out.Rearm = true
	return s.Ping(now, out)
}

// guard keeps the current id within 2^28 packets and 2^38 bytes: it moves to the
// next id in good time, and closes the session if there is none. It reports
// whether it closed.
func (s *Session) guard(now Time, out *Output) bool {
	near := func(reserve uint64) bool {
		return s.rid.counter >= wire.MaxCounter-reserve || s.rid.bytes >= wire.MaxIDBytes-reserve*wire.MaxPacket
	}
	if s.state > StateOpen || !near(rotateReserve) {
		return false
	}
	if s.rotate() || near(closeReserve) && s.rotateAnyhow() {
		return false
	}
	if !near(closeReserve) {
		return false
	}
	s.Close(now, wire.CloseLimit, "the last id is used up: the peer issued no further one", out)
	return true
}
