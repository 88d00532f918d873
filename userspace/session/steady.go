// SPDX-License-Identifier: Apache-2.0

package session

import "github.com/xdp-roam/xdp-roam/userspace/wire"

// Nearly every packet of a session is one DATAGRAM on the path and the id that the
// session is on, while nothing else is under way. To such a packet most of what act
// asks has the same answer: no. steady asks it in one go, of few cache lines, and
// plainDatagram does the rest. Nothing but the time it takes may differ from act;
// TestSteady holds them against each other.

// steady reports whether a new DATAGRAM on in, from that path, would change nothing
// but what plainDatagram writes down.
func (s *Session) steady(in *localID, from *Path) bool {
	return s.state == StateOpen && in == s.pathLocal && s.heardAny && in.Seq == s.newest.seq && in.used && // gate has nothing to supersede, follow or commit
		s.worn && s.keysBuilt && // and the deadline comes no closer
		from.Socket == s.path.Socket && from.Remote == s.path.Remote && from.Local == s.path.Local &&
		len(s.candidates) == 0 && s.localMove == nil && (s.finder == nil || s.finder.movedFrom == nil) &&
		s.epoch.change == nil && s.rid.Seq >= s.sentSeq && s.owed == nil && // followRekey, renew, payOwed
		s.rid.counter < wire.MaxCounter-rotateReserve && s.rid.bytes < wire.MaxIDBytes-rotateReserve*wire.MaxPacket && // guard
		s.ctl.tries < maxTries && !s.needIDs && !s.urgent // heardControl, replenish
}

// plainDatagram delivers a packet that is one DATAGRAM, of a steady session, or
// reports that it is another one.
func (s *Session) plainDatagram(now Time, in *localID, counter uint64, plain []byte, out *Output) bool {
	if wire.FrameType(plain[0]) != wire.FrameDatagram || len(plain) > 1+int(s.maxDatagram) || counter >= rekeyPackets {
		return false
	}
	in.heard = max(in.heard, now)
	s.newest.counter = max(s.newest.counter, uint32(counter))
	s.deliver(now, plain[1:], out)
	return true
}
