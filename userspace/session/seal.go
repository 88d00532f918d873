// SPDX-License-Identifier: Apache-2.0

package session

import "github.com/xdp-roam/xdp-roam/userspace/wire"

// begin reserves room for a packet with n bytes of frames and returns where it
// starts in the arena. The caller appends the frames to out.arena and calls
// finish.
func begin(out *Output, n int) int {
	out.reserve(n + wire.Overhead)
	start := len(out.arena)
	out.arena = out.arena[:start+wire.HeaderLen]
	return start
}

// finish seals what was begun at start, in place, and hands it out. It is the one
// place where packets leave, and so where the limits that hold for each of them
// are kept: 2^28 packets for an id, and 3x for a candidate. It reports whether
// the packet may go; if not, nothing has happened.
func (s *Session) finish(now Time, out *Output, start int, path Path, rid *remoteID, probing bool) bool {
	size := len(out.arena) - start + wire.TagLen
	var reserve uint64 = closeReserve
	if s.state == StateClosing {
		reserve = 0
	}
	c := s.findCandidate(path)
	switch {
	case rid.counter >= wire.MaxCounter-reserve || rid.bytes+uint64(size) > wire.MaxIDBytes-reserve*wire.MaxPacket:
	case c != nil && !c.ledger.fits(size):
		s.count(OverBudget)
	case s.readyToSend(rid) != nil:
	default:
		s.keysBuilt = true
		head := out.arena[start : start+wire.HeaderLen]
		plain := out.arena[start+wire.HeaderLen:]
		wire.PutDataHeader(head, rid.counter, rid.ID)
		sealed := rid.key.aead.Seal(plain[:0], rid.key.nonce(&out.nonce, rid.counter), plain, head)
		rid.counter++
		rid.bytes += uint64(size)
		if c != nil {
			c.ledger.sent += uint64(size)
		}
		if !probing {
			s.noteSent(now, rid)
		}
		s.sent.Packets++
		s.sent.Bytes += uint64(size)
		s.lastSent = now
		out.arena = out.arena[:start+wire.HeaderLen+len(sealed)]
		out.Packets = append(out.Packets, Packet{path, out.arena[start:len(out.arena):len(out.arena)]})
		return true
	}
	out.arena = out.arena[:start]
	return false
}

// sendChallenge sends a packet of one CHALLENGE. It reports whether it may go.
func (s *Session) sendChallenge(now Time, out *Output, path Path, rid *remoteID, c wire.Cookie) bool {
	start := begin(out, wire.ChallengeLen)
	out.arena = wire.AppendChallenge(out.arena, c)
	return s.finish(now, out, start, path, rid, true)
}

// sendFrames sends a packet of the frames given, if there are any.
func (s *Session) sendFrames(now Time, out *Output, path Path, rid *remoteID, frames []byte, probing bool) {
	if len(frames) == 0 {
		return
	}
	start := begin(out, len(frames))
	out.arena = append(out.arena, frames...)
	s.finish(now, out, start, path, rid, probing)
}

// readyToSend builds the key of an id of the peer if it has none.
func (s *Session) readyToSend(r *remoteID) error {
	if r.key != nil {
		return nil
	}
	key := new(idKey)
	if err := key.build(s.sendSecret(r.Seq), r.Seq, &r.ID); err != nil {
		return err
	}
	publish(&r.key, key)
	return nil
}

// open decrypts pkt with the key of one of our ids: in place, or into room if that is
// large enough. Whatever fails leaves zeros, and never a plaintext.
func (s *Session) open(l *localID, counter uint64, pkt, room []byte, out *Output) (plain []byte, ok bool) {
	var fresh idKey
	key := &fresh
	if l.use != nil {
		key = &l.use.key
	} else if err := fresh.build(s.receiveSecret(l.Seq), l.Seq, &l.ID); err != nil {
		return nil, false
	}
	body := pkt[wire.HeaderLen:]
	if len(room) < len(body)-wire.TagLen {
		room = body
	}
	plain, err := key.aead.Open(room[:0], key.nonce(&out.nonce, counter), body, pkt[:wire.HeaderLen])
	if err != nil {
		return nil, false // forged packets do not make an idle session hold keys
	}
	if l.use == nil {
		publish(&l.use, &receiving{key: fresh})
	}
	s.keysBuilt = true
	return plain, true
}
