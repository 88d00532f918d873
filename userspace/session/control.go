// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// maxTries is how often a control packet is sent before the sender waits until
	// it hears the peer again.
	maxTries = 6
	// maxPings is how many open PINGs are remembered: all tries of a control packet
	// and a search for the path MTU beside them.
	maxPings = 8
	// maxControl is room for every control frame at once.
	maxControl = 1024
	// greaseOneIn control packets carry an extension that nobody knows, so that
	// peers keep skipping them.
	greaseOneIn = 16
	// greaseType is an extension type that will never mean anything.
	greaseType wire.FrameType = 0x5A
)

// ping is a PING on its way, and what its PONG acknowledges.
type ping struct {
	token uint64
	at    Time
	// generation is the current path's when it was sent: a PONG across a move
	// measures neither path.
	generation uint32
	// seq is that of the peer's id that it went on.
	seq uint32
	// ids: NEW_IDs of ours below this seq rode along or were acknowledged before.
	ids uint32
	// observed: OBSERVED_ADDR rode along; closing: CLOSE did.
	observed, closing bool
	// control: sent by sendControl, not by a silence or the search for the path MTU.
	control bool
	// addrs, if any, is the ADDRS that rode along; rekey the epoch of REKEY_*, or 0.
	addrs *addrsFrame
	rekey uint32
}

// control is the reliable delivery of control frames: they travel with a PING,
// whose PONG acknowledges all of its packet.
type control struct {
	tries      uint8
	unacked    uint8 // so many of our highest ids the peer is not known to have
	armed      bool  // next is when to try again
	stalled    bool  // all tries are used up and were waited for
	closeAcked bool
	// want: a PONG is wanted for its own sake; observe: OBSERVED_ADDR is to be sent.
	want, observe bool

	pings      []ping
	addrs      *addrsFrame // to be sent
	last, next Time        // of the tries
}

// restart gives a changed path its full number of tries.
func (c *control) restart() { c.tries, c.armed, c.stalled = 0, false, false }

// pending reports whether there is anything that the peer has not acknowledged.
func (s *Session) pending() bool {
	switch s.state {
	case StateUnconfirmed:
		return s.role == Client
	case StateClosing:
		return !s.ctl.closeAcked
	case StateOpen:
		if k := s.epoch.change; k != nil && !k.acked || s.ctl.want || s.ctl.observe || s.ctl.addrs != nil {
			return true
		}
		return s.ctl.unacked > 0
	}
	return false
}

// sendControl sends everything that is not acknowledged, with a new PING, on the
// current path, padded to size bytes of UDP payload, and arms the next try.
func (s *Session) sendControl(now Time, out *Output, size int) {
	s.renew(now, &s.rid, s.path)
	token := s.randomToken(out)
	p := ping{token: token, at: now, generation: s.pathGeneration, seq: s.rid.Seq, control: true}
	start := begin(out, max(size, maxControl))
	b := wire.AppendPing(out.arena, token)
	if s.ctl.observe {
		b = wire.AppendObservedAddr(b, s.path.Remote)
		p.observed = true
	}
	if a := s.ctl.addrs; a != nil {
		b = wire.AppendAddrs(b, a.addrs)
		p.addrs = a
	}
	if s.state != StateClosing {
		if k := s.epoch.change; k != nil && !k.acked {
			if s.role == Client {
				b = wire.AppendRekeyInit(b, k.epoch, k.localFirst, k.ours)
			} else {
				b = wire.AppendRekeyResp(b, k.epoch, k.localFirst, k.ours)
			}
			p.rekey = k.epoch
		}
		for _, l := range s.local {
			if s.ctl.unacked == 0 {
				break // which spares a look at ids that are in no cache
			}
			if l.Seq > s.localTop-uint32(s.ctl.unacked) { // in order of seq
				b = wire.AppendNewID(b, l.Seq, l.ID, l.Reset)
			}
		}
		p.ids = s.localTop + 1
	} else {
		b = wire.AppendClose(b, s.farewell.code, s.farewell.text)
		p.closing = true
	}
	if s.grease {
		// The last byte decides; the first is the length.
		if r := s.random(8, out); r[7]%greaseOneIn == 0 {
			b = wire.AppendExtension(b, greaseType, r[1:1+(r[0]&7)])
		}
	}
	if n := start + size - wire.TagLen - len(b); n > 0 {
		b = wire.AppendPad(b, n)
	}
	out.arena = b
	if s.finish(now, out, start, s.path, s.rid, false) {
		s.remember(p)
	}
	s.expect(now)
	s.ctl.tries++
	s.ctl.armed, s.ctl.last = true, now
	s.ctl.next = now + s.rtt.pto()<<(s.ctl.tries-1)
	if s.state == StateUnconfirmed && s.ctl.tries <= 3 {
		// The first PING goes again 1, 2 and 4 s after the first, like INIT.
		s.ctl.next = s.started + time.Second<<(s.ctl.tries-1)
	}
}

func (s *Session) remember(p ping) {
	if len(s.ctl.pings) == maxPings {
		s.ctl.pings = slices.Delete(s.ctl.pings, 0, 1)
	}
	s.ctl.pings = append(s.ctl.pings, p)
}

// pushControl sends at once what has newly become due.
func (s *Session) pushControl(now Time, out *Output) {
	s.ctl.restart()
	s.sendControl(now, out, 0)
}

// pong acts on a PONG.
func (s *Session) pong(now Time, token uint64) {
	i := slices.IndexFunc(s.ctl.pings, func(p ping) bool { return p.token == token })
	if i < 0 {
		s.count(PongUnknown)
		return
	}
	p := s.ctl.pings[i]
	s.ctl.pings = slices.Delete(s.ctl.pings, i, i+1)
	if p.generation == s.pathGeneration {
		s.rtt.sample(now - p.at)
	}
	if !p.control {
		s.mtu.acknowledged(token, now)
		return
	}
	s.acknowledge(p.ids)
	if p.generation == s.pathGeneration && p.seq == s.rid.Seq {
		// Of the answer to an earlier PING the peer cannot have seen where we went since,
		// or on which id: what tells it of a move, and was lost, has to go again.
		s.ctl.want = false
	}
	if p.observed && p.generation == s.pathGeneration {
		s.ctl.observe = false
	}
	if p.addrs != nil && p.addrs == s.ctl.addrs {
		s.ctl.addrs = nil
	}
	if k := s.epoch.change; k != nil && p.rekey == k.epoch {
		k.acked, k.again = true, now+rekeyAgain
	}
	s.ctl.closeAcked = s.ctl.closeAcked || p.closing
	if !s.pending() {
		s.ctl.restart()
	}
}

// acknowledge notes that the peer has our ids below seq.
func (s *Session) acknowledge(seq uint32) {
	if seq > s.localTop-uint32(s.ctl.unacked) {
		s.ctl.unacked = uint8(s.localTop - min(seq-1, s.localTop))
	}
}

// heardControl lets a sender whose tries are used up start again: the peer is
// back, though no answer to the last try can be expected any more.
func (s *Session) heardControl(now Time, out *Output) {
	if s.ctl.tries >= maxTries && now >= s.ctl.last+s.rtt.pto() && s.pending() {
		s.pushControl(now, out)
	}
}

// tickControl sends again what the peer has not acknowledged.
func (s *Session) tickControl(now Time, out *Output) {
	if !s.ctl.armed || now < s.ctl.next {
		return
	}
	switch {
	case !s.pending():
		s.ctl.restart()
	case s.ctl.tries >= maxTries:
		s.ctl.armed, s.ctl.stalled = false, true
	default:
		s.sendControl(now, out, 0)
	}
}

// Ping asks the peer for a sign of life, which also measures the round trip. It
// is sent again until it is answered, like every control frame. It fails with
// ErrClosed or ErrNotConfirmed.
func (s *Session) Ping(now Time, out *Output) error {
	if err := s.canSend(); err != nil {
		return err
	}
	s.ctl.want = true
	s.pushControl(now, out)
	s.guard(now, out)
	return nil
}
