// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Receive opens one DATA packet, in place or in out.Room, and acts on it. pkt is
// overwritten; datagrams in out alias it or Room. from says where it came from, whatever lane brought
// it: nothing of that is trusted. It returns what became of the packet, which is
// also counted.
func (s *Session) Receive(now Time, from Path, pkt []byte, out *Output) Reason {
	r := s.receive(now, &from, pkt, out, true)
	s.count(r)
	return r
}

// receive is Receive but for the count. shortcut allows plainDatagram.
func (s *Session) receive(now Time, from *Path, pkt []byte, out *Output, shortcut bool) Reason {
	counter, id, err := wire.ParseData(pkt)
	if err != nil {
		return Malformed
	}
	in := s.findLocal(&id)
	switch {
	case in == nil:
		return s.unopened(UnknownID, *from, pkt, out)
	case counter >= wire.MaxCounter:
		return CounterLimit
	case s.state >= StateDraining:
		return AfterClose
	}
	steady := shortcut && s.steady(in, from)
	var room []byte
	if steady && len(out.Room) > 0 {
		room = out.Room[RoomGap-1:] // the frame's type is before the datagram
	}
	plain, ok := s.open(in, counter, pkt, room, out)
	if !ok {
		return s.unopened(AuthFailed, *from, pkt, out)
	}
	out.Rearm = out.Rearm || !steady
	// From here on the peer has sent these bytes, though perhaps long ago and
	// perhaps someone else sends them now.
	if s.state == StateUnconfirmed && s.role == Server && !from.Same(s.path) {
		return Unconfirmed
	}
	if r := in.accept(counter, !steady && !from.Same(s.path)); r != Delivered {
		if r == ReplayDuplicate {
			s.duplicate(now, *from, out)
		}
		return r
	}
	s.lastReceived = now
	if from.Socket == s.path.Socket { // what still comes to one that was left says nothing of it
		out.Rearm = s.heardPeer() || out.Rearm
	}
	s.received.Packets++
	s.received.Bytes += uint64(len(pkt))
	if steady && s.plainDatagram(now, in, counter, plain, out) {
		if room != nil {
			out.useRoom(plain)
		}
		return Delivered
	}
	if room != nil {
		plain = append(pkt[wire.HeaderLen:wire.HeaderLen], plain...) // Room is for datagrams
	}
	out.Rearm, out.Room = true, out.Room[:0]
	return s.act(now, *from, in, counter, len(pkt), plain, out)
}

// act is what an authentic packet of length n that was not received before brings about.
func (s *Session) act(now Time, from Path, in *localID, counter uint64, n int, plain []byte, out *Output) Reason {
	s.heardEpoch(now, in, out)
	if !in.used {
		in.used, s.needIDs = true, true
		s.acknowledge(in.Seq + 1)
	}
	if s.state == StateClosing {
		return s.receiveClosing(now, plain, out)
	}
	has, err := classify(plain, out)
	if s.state == StateUnconfirmed {
		s.confirm(now, out)
	}
	if err == nil && has.claims {
		err = s.claims(now, plain, out)
	}
	if err != nil {
		s.Close(now, wire.CloseProtocolError, err.Error(), out)
		return ProtocolError
	}
	if c := s.findCandidate(from); c != nil {
		c.ledger.received += uint64(n)
		s.renew(now, &c.rid, c.path)
	} else if from.Same(s.path) {
		s.renew(now, &s.rid, s.path)
	}
	out.source, out.home = out.source[:0], out.home[:0]
	// Answers come before the gate: a RESPONSE from the current path must find the
	// candidate that it refuses, which the gate would merely forget. The last packet
	// of a session moves nothing.
	if has.answers && !has.closing {
		s.answers(now, from, plain, out)
	}
	if has.addrs && !has.closing {
		s.addrs(plain, out) // before the gate, too: the packet's source may be among them
	}
	if !has.probing && !has.closing {
		in.heard = max(in.heard, now)
		s.gate(now, from, in, counter, n, out)
	}
	if f := s.finder; f != nil && f.movedFrom != nil && from.Same(s.path) {
		s.tally().Committed++
		s.tally().LastCommitted = now
		out.event(Event{Kind: EventMoveCommitted, Path: s.path, From: *f.movedFrom})
		f.movedFrom = nil
	}
	s.frames(now, from, in, plain, out)
	if has.closing {
		s.drain(now, true, out) // its PONG is sent, now silence
		return Delivered
	}
	s.heardControl(now, out)
	s.replenish(now, out)
	s.guard(now, out)
	if has.probing {
		return Probed
	}
	return Delivered
}

// unopened handles a packet that is not authentic: only the server's word that it
// lost the session means anything.
func (s *Session) unopened(why Reason, from Path, pkt []byte, out *Output) Reason {
	if !s.isReset(pkt) {
		return why
	}
	s.reset(from, out)
	return StatelessReset
}

// contents is what a packet is found to hold before any of it is acted on.
type contents struct {
	probing bool // nothing but probing frames
	answers bool // RESPONSE or NOT_PREFERRED
	claims  bool // see claims
	addrs   bool // ADDRS
	closing bool // CLOSE
}

// classify reads all frames without acting: one bad frame closes the session and
// none of its packet counts.
func classify(plain []byte, out *Output) (has contents, err error) {
	f := &out.frame
	r := wire.NewFrameReader(plain)
	has.probing = true
	for r.Next(f) {
		has.probing = has.probing && f.Type.Probing()
		switch f.Type {
		case wire.FrameResponse, wire.FrameNotPreferred:
			has.answers = true
		case wire.FrameNewID, wire.FrameRekeyInit, wire.FrameRekeyResp:
			has.claims = true
		case wire.FrameAddrs:
			has.addrs = true
		case wire.FrameClose:
			has.closing = true
		}
	}
	return has, r.Err()
}

// claims acts on the frames that can be against the protocol though they are well
// formed. They come before all others, so that a packet that closes the session
// has done nothing else.
func (s *Session) claims(now Time, plain []byte, out *Output) (err error) {
	f := &out.frame
	for r := wire.NewFrameReader(plain); err == nil && r.Next(f); {
		switch f.Type {
		case wire.FrameNewID:
			err = s.newRemote(f)
		case wire.FrameRekeyInit:
			err = s.rekeyInit(now, f, out)
		case wire.FrameRekeyResp:
			err = s.rekeyResp(now, f, out)
		}
	}
	return err
}

func (s *Session) answers(now Time, from Path, plain []byte, out *Output) {
	f := &out.frame
	for r := wire.NewFrameReader(plain); r.Next(f); {
		if f.Type == wire.FrameResponse || f.Type == wire.FrameNotPreferred {
			s.answer(now, from, f, out)
		}
	}
}

// frames carries out the other frames and sends the answers to them.
func (s *Session) frames(now Time, from Path, in *localID, plain []byte, out *Output) {
	f := &out.frame
	home := from.Same(s.path) && !s.leftHere(from)
	ponged := false
	for r := wire.NewFrameReader(plain); r.Next(f); {
		switch f.Type {
		case wire.FrameDatagram, wire.FrameDatagramLen:
			s.deliver(now, f.Data, out)
		case wire.FrameDatagramPart:
			s.part(now, f, out)
		case wire.FramePing:
			if home || s.findCandidate(from) != nil {
				// Answers to a packet are no larger than it but for one CHALLENGE, so they
				// always fit a candidate's budget.
				out.source, ponged = wire.AppendPong(out.source, f.Token), true
			} else {
				out.home = wire.AppendPong(out.home, f.Token)
			}
		case wire.FramePong:
			s.pong(now, f.Token)
		case wire.FrameChallenge:
			s.challenged(from, f.Cookie, out)
		case wire.FrameClose:
			s.farewell = &farewell{f.Code, f.ReasonText(), now}
		case wire.FrameObservedAddr:
			if s.finder != nil && f.Addr != s.finder.observed {
				s.finder.observed = f.Addr
				out.event(Event{Kind: EventObserved, Path: from, Addr: f.Addr})
			}
		case wire.FrameParams:
			s.params(f)
		}
		// PAD, VERSIONS (RESP has the one that matters) and extensions say nothing to
		// us; claims, answers and ADDRS have had their turn.
	}
	s.followRekey()
	s.reply(now, from, in, ponged, out)
}

// challenged answers a CHALLENGE to where it came from, at no larger size.
func (s *Session) challenged(from Path, cookie wire.Cookie, out *Output) {
	switch {
	case s.leftHere(from), s.findLeft(from) != nil:
		out.source = wire.AppendNotPreferred(out.source, cookie)
	case from.Socket != s.path.Socket:
		s.count(NoAnswerSocket) // a client's
	default:
		out.source = wire.AppendResponse(out.source, cookie)
	}
}

// reply sends what has gathered for where the packet came from, on the id of that
// path, and for the current path. A PONG among the former (ponged) is the one
// answer that is not probing.
func (s *Session) reply(now Time, from Path, in *localID, ponged bool, out *Output) {
	if len(out.source) > 0 {
		s.sendFrames(now, out, from, s.idForReply(from, in), out.source, !ponged)
	}
	s.sendFrames(now, out, s.path, s.rid, out.home, false)
}

// idForReply returns the id that answers go on to where a packet came from, which
// came on in.
func (s *Session) idForReply(from Path, in *localID) *remoteID {
	switch {
	case s.leftHere(from):
		return s.localMove.rid
	case from.Same(s.path):
		return s.rid
	}
	if c := s.findCandidate(from); c != nil {
		return c.rid
	}
	if l := s.findLeft(from); l != nil {
		return l.rid
	}
	if in != s.pathLocal {
		// Also on an older one: the current path may have gone on to a newer since, as
		// at a rekey, and its id is not to be seen where the probe came from.
		return s.spareForProbe(from)
	}
	return s.rid
}

// confirm opens the session at the first authentic packet. A server has then
// seen the address that RESP went to answer for itself.
func (s *Session) confirm(now Time, out *Output) {
	s.state = StateOpen
	s.needIDs = true
	out.event(Event{Kind: EventConfirmed, Path: s.path})
	s.commit(out)
}

// replenish keeps spare ids at the peer after it has used one, and sends what else
// has become urgent.
func (s *Session) replenish(now Time, out *Output) {
	if s.state != StateOpen {
		return
	}
	if s.needIDs && now >= s.retryIDs {
		s.needIDs = false
		s.urgent = s.topUp(now) || s.urgent
	}
	if s.urgent {
		s.urgent = false
		s.pushControl(now, out)
	}
}

// params takes what the peer says anew; zero says nothing.
func (s *Session) params(f *wire.Frame) {
	if t := time.Duration(f.IdleTimeout) * time.Second; t > 0 {
		s.idle = min(s.idle, t)
	}
	if f.MaxDatagram > 0 {
		s.peerMaxDatagram = f.MaxDatagram
	}
}
