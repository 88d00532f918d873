// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// craft seals frames as the end's next packet on its current id.
func (m *sim) craft(e *end, frames []byte) []byte { return m.craftOn(e, e.rid, frames) }

func (m *sim) craftOn(e *end, rid *remoteID, frames []byte) []byte {
	var out Output
	start := begin(&out, len(frames))
	out.arena = append(out.arena, frames...)
	if !e.finish(m.now, &out, start, e.path, rid, true) {
		m.t.Fatal("cannot seal")
	}
	return out.Packets[0].Data
}

// capture records what the server sends and delivers nothing of it to anyone.
type capture struct{ flights []flight }

func (c *capture) drop(f flight) []flight {
	if !f.toServer {
		c.flights = append(c.flights, f)
	}
	return nil
}

func (c *capture) take() []flight {
	f := c.flights
	c.flights = nil
	return f
}

// framesTo opens what the server sent to an address and lists its frames.
func (m *sim) framesTo(flights []flight, dst netip.AddrPort) (frames []wire.Frame) {
	for _, f := range flights {
		if f.dst != dst {
			continue
		}
		counter, id, err := wire.ParseData(f.data)
		if err != nil {
			m.t.Fatal(err)
		}
		in := m.c.findLocal(&id)
		if in == nil {
			m.t.Fatalf("packet to %v on an id that the client has not issued or has retired", dst)
		}
		plain, ok := m.c.open(in, counter, slices.Clone(f.data))
		if !ok {
			m.t.Fatal("does not open")
		}
		var fr wire.Frame
		for r := wire.NewFrameReader(plain); r.Next(&fr); {
			frames = append(frames, fr)
		}
	}
	return frames
}

func cookieOf(frames []wire.Frame) (c wire.Cookie, n int) {
	for _, f := range frames {
		if f.Type == wire.FrameChallenge {
			c = f.Cookie
			n++
		}
	}
	return c, n
}

func pingFrame(token uint64) []byte { return wire.AppendPing(nil, token) }

// begun is a simulation in which a packet of the client came from addrB and the
// server has challenged both paths; nothing of it has arrived.
type begun struct {
	*sim
	*capture
	cookieA, cookieB wire.Cookie
}

func beginMove(t *testing.T) begun {
	m := opened(t, 5)
	m.run(2 * time.Second) // the clock is well away from 0
	b := begun{sim: m, capture: &capture{}}
	m.network = b.drop
	m.inject(addrB, m.craft(&m.c, pingFrame(77)))
	sent := b.take()
	toB, toA := m.framesTo(sent, addrB), m.framesTo(sent, addrA)
	var n int
	if b.cookieB, n = cookieOf(toB); n != 1 {
		t.Fatalf("to the candidate: %v", toB)
	}
	if b.cookieA, n = cookieOf(toA); n != 1 || len(toA) != 1 {
		t.Fatalf("to the current path: %v", toA)
	}
	if b.cookieA == b.cookieB {
		t.Fatal("one cookie for both paths")
	}
	if !slices.ContainsFunc(toB, func(f wire.Frame) bool { return f.Type == wire.FramePong && f.Token == 77 }) {
		t.Error("no PONG to the candidate")
	}
	m.s.wants(t, "newest packet from elsewhere", EventMoveStarted, 1)
	return b
}

func (b begun) answer(from netip.AddrPort, frame func([]byte, wire.Cookie) []byte, c wire.Cookie) {
	if r := b.inject(from, b.craft(&b.c, frame(nil, c))); r != Probed {
		b.t.Errorf("answer: %v", r)
	}
}

func (b begun) path(t *testing.T, what string, want netip.AddrPort) {
	t.Helper()
	if got := b.s.Path().Remote; got != want {
		t.Errorf("%s: the path is %v, want %v", what, got, want)
	}
	if got := b.slots[b.s.Info().LocalID]; got != want {
		t.Errorf("%s: the slot says %v, want %v", what, got, want)
	}
}

func TestAnswers(t *testing.T) {
	response, notPreferred := wire.AppendResponse, wire.AppendNotPreferred
	other := wire.Cookie{1}
	tests := []struct {
		name   string
		do     func(b begun)
		want   netip.AddrPort
		reason Reason // counted once, unless Delivered
	}{
		{"RESPONSE from the candidate moves", func(b begun) { b.answer(addrB, response, b.cookieB) }, addrB, Delivered},
		{"RESPONSE of the candidate from elsewhere", func(b begun) { b.answer(addrX, response, b.cookieB) }, addrA, AnswerElsewhere},
		{"RESPONSE of the candidate from the current path", func(b begun) { b.answer(addrA, response, b.cookieB) }, addrA, AnswerElsewhere},
		{"RESPONSE with the other path's cookie", func(b begun) { b.answer(addrB, response, b.cookieA) }, addrA, AnswerElsewhere},
		{"RESPONSE with a cookie never sent", func(b begun) { b.answer(addrB, response, other) }, addrA, AnswerUnknown},
		{"RESPONSE from the current path: still preferred", func(b begun) { b.answer(addrA, response, b.cookieA) }, addrA, RefusedPreferred},
		{"still preferred, then RESPONSE from the candidate", func(b begun) {
			b.answer(addrA, response, b.cookieA)
			b.answer(addrB, response, b.cookieB)
		}, addrA, AnswerUnknown},
		{"NOT_PREFERRED alone moves nothing", func(b begun) { b.answer(addrA, notPreferred, b.cookieA) }, addrA, Delivered},
		{"NOT_PREFERRED voids the RESPONSE", func(b begun) {
			b.answer(addrA, notPreferred, b.cookieA)
			b.answer(addrA, response, b.cookieA)
		}, addrA, AnswerVoid},
		{"NOT_PREFERRED, RESPONSE from there, then from the candidate", func(b begun) {
			b.answer(addrA, notPreferred, b.cookieA)
			b.answer(addrA, response, b.cookieA)
			b.answer(addrB, response, b.cookieB)
		}, addrB, AnswerVoid},
		{"NOT_PREFERRED from elsewhere voids nothing", func(b begun) {
			b.answer(addrX, notPreferred, b.cookieA)
			b.answer(addrA, response, b.cookieA)
			b.answer(addrB, response, b.cookieB)
		}, addrA, AnswerElsewhere},
		{"NOT_PREFERRED from the candidate: its owner has gone on", func(b begun) {
			b.answer(addrB, notPreferred, b.cookieB)
			b.answer(addrB, response, b.cookieB)
		}, addrA, RefusedLeft},
		{"still preferred just after the switch: return", func(b begun) {
			b.answer(addrB, response, b.cookieB)
			b.now = b.s.departures[0].until
			b.answer(addrA, response, b.cookieA)
		}, addrA, RefusedPreferred},
		{"still preferred too late after the switch", func(b begun) {
			b.answer(addrB, response, b.cookieB)
			b.now = b.s.departures[0].until + 1
			b.answer(addrA, response, b.cookieA)
		}, addrB, Delivered},
		{"NOT_PREFERRED after the switch ends the old path's claim", func(b begun) {
			b.answer(addrB, response, b.cookieB)
			b.answer(addrA, notPreferred, b.cookieA)
			b.answer(addrA, response, b.cookieA)
		}, addrB, AnswerUnknown},
		{"a newer packet from the current path cancels", func(b begun) {
			b.inject(addrA, b.craft(&b.c, pingFrame(1)))
			b.answer(addrB, response, b.cookieB)
		}, addrA, RefusedCurrent},
		{"a RESPONSE in a non-probing packet counts too", func(b begun) {
			b.inject(addrB, b.craft(&b.c, response(pingFrame(1), b.cookieB)))
		}, addrB, Delivered},
		{"still preferred in a non-probing packet refuses, not only cancels", func(b begun) {
			b.inject(addrA, b.craft(&b.c, response(pingFrame(1), b.cookieA)))
		}, addrA, RefusedPreferred},
		{"nobody answers", func(b begun) { b.run(3*minDeadline - 1) }, addrA, Delivered},
		{"nobody answers in time", func(b begun) { b.run(3 * minDeadline); b.s.Tick(b.now, &b.s.out); b.flush(&b.s) }, addrA, RefusedTimeout},
		{"the answer is late", func(b begun) {
			b.run(3*minDeadline + 1)
			b.answer(addrB, response, b.cookieB)
		}, addrA, AnswerUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := beginMove(t)
			tt.do(b)
			b.path(t, tt.name, tt.want)
			if tt.reason != Delivered && b.s.Info().Counts[tt.reason] != 1 {
				t.Errorf("%v was counted %d times", tt.reason, b.s.Info().Counts[tt.reason])
			}
		})
	}
}

// An answer counts whatever its place in the order of packets.
func TestAnswerOutOfOrder(t *testing.T) {
	b := beginMove(t)
	answer := b.craft(&b.c, wire.AppendResponse(nil, b.cookieB))
	b.inject(addrB, b.craft(&b.c, pingFrame(1)))
	b.inject(addrB, answer)
	b.path(t, "older answer", addrB)
}

// A duplicate of an answer is no answer.
func TestAnswerReplayed(t *testing.T) {
	b := beginMove(t)
	answer := b.craft(&b.c, wire.AppendResponse(nil, b.cookieB))
	if r := b.inject(addrX, answer); r != Probed {
		t.Error(r)
	}
	if r := b.inject(addrB, answer); r != ReplayDuplicate {
		t.Error(r)
	}
	b.path(t, "replay", addrA)
}

func TestChallengeResends(t *testing.T) {
	b := beginMove(t)
	start, pto := b.now, b.s.rtt.pto()
	var atA, atB []Time
	b.network = func(f flight) []flight {
		if f.toServer {
			return nil
		}
		if c, n := cookieOf(b.framesTo([]flight{f}, f.dst)); n == 1 {
			switch {
			case f.dst == addrA && c == b.cookieA:
				atA = append(atA, b.now-start)
			case f.dst == addrB && c == b.cookieB:
				atB = append(atB, b.now-start)
			default:
				t.Errorf("challenge %v to %v", c, f.dst)
			}
		}
		return nil
	}
	// Enough budget for all of them.
	b.inject(addrB, b.craft(&b.c, wire.AppendPad(nil, 300)))
	b.run(5 * time.Second)
	want := []Time{pto, 2 * pto, 4 * pto}
	if !slices.Equal(atA, want) || !slices.Equal(atB, want) {
		t.Errorf("resent at %v and %v, want %v", atA, atB, want)
	}
}

// After the RESPONSE of A, B is no candidate for 10 s, doubling to 60 s.
func TestBackoff(t *testing.T) {
	b := beginMove(t)
	b.answer(addrA, wire.AppendResponse, b.cookieA)
	for _, period := range []time.Duration{10, 20, 40, 60, 60} {
		period *= time.Second
		b.now += period - 1
		b.inject(addrB, b.craft(&b.c, pingFrame(1)))
		if b.s.Info().NumCandidates != 0 {
			t.Fatalf("candidate again within %v", period)
		}
		b.now++
		b.take()
		b.inject(addrB, b.craft(&b.c, pingFrame(1)))
		if b.s.Info().NumCandidates != 1 {
			t.Fatalf("no candidate after %v", period)
		}
		c, _ := cookieOf(b.framesTo(b.take(), addrA))
		b.answer(addrA, wire.AppendResponse, c)
	}
	if n := b.s.Info().Counts[BackedOff]; n != 5 {
		t.Errorf("backed off %d times", n)
	}
}

// Back-offs are remembered for a bounded number of addresses, and end.
func TestBackoffsAreBounded(t *testing.T) {
	s := &Session{}
	at := func(n int) Path { return Path{Remote: netip.AddrPortFrom(addrX.Addr(), uint16(n))} }
	for n := range 10 {
		s.backOff(Time(n), at(n))
	}
	if len(s.backoffs) != maxBackoffs || !s.backedOff(10, at(9)) || !s.backedOff(10, at(6)) || s.backedOff(10, at(5)) {
		t.Errorf("%v", s.backoffs)
	}
	// Long forgotten: the period starts over.
	s.backOff(time.Second, at(9))
	var later Time
	for i := range s.backoffs {
		if s.backoffs[i].path == at(9) {
			later = s.backoffs[i].until + maxBackoff
		}
	}
	s.backOff(later, at(9))
	if s.backedOff(later+minBackoff, at(9)) {
		t.Error("the period did not start over")
	}
}

// At most 3 candidates; a fourth replaces the oldest.
func TestCandidatesAreBounded(t *testing.T) {
	b := beginMove(t)
	addrs := []netip.AddrPort{addrB}
	for port := range uint16(6) {
		a := netip.AddrPortFrom(addrX.Addr(), 1000+port)
		addrs = append(addrs, a)
		b.now += time.Millisecond
		b.inject(a, b.craft(&b.c, pingFrame(1)))
		i := b.s.Info()
		got := []netip.AddrPort{}
		for _, p := range i.Candidates[:i.NumCandidates] {
			got = append(got, p.Remote)
		}
		if want := addrs[max(0, len(addrs)-maxCandidates):]; !slices.Equal(got, want) {
			t.Errorf("candidates %v, want %v", got, want)
		}
	}
}

// A packet that is not the newest delivers its data and moves nothing.
func TestNotNewest(t *testing.T) {
	m := opened(t, 5)
	old := m.craft(&m.c, wire.AppendDatagram(nil, []byte("late")))
	m.clientSend("newer")
	m.run(time.Second)
	var c capture
	m.network = c.drop
	if r := m.inject(addrX, old); r != Delivered {
		t.Error(r)
	}
	if got := m.s.got; len(got) != 2 || got[1] != "late" {
		t.Errorf("got %q", got)
	}
	if m.s.Info().Counts[NotNewest] != 1 || m.s.Info().NumCandidates != 0 || len(c.flights) != 0 {
		t.Errorf("counted %d, sent %d", m.s.Info().Counts[NotNewest], len(c.flights))
	}
}

// The data to a candidate stays within its budget and leaves room for one more
// CHALLENGE; the rest goes to the current path.
func TestDataBudget(t *testing.T) {
	b := beginMove(t)
	b.inject(addrB, b.craft(&b.c, wire.AppendPad(pingFrame(1), 200)))
	b.take()
	for range 10 {
		b.serverSend(string(make([]byte, 100)))
	}
	toA, toB := 0, 0
	for _, f := range b.take() {
		switch f.dst {
		case addrA:
			toA++
		case addrB:
			toB++
		}
	}
	// 49 + 249 bytes came, 66 + 49 were sent, 57 are kept back: 722 for datagrams of
	// 141.
	if toB != 5 || toA != 5 {
		t.Errorf("%d to the candidate, %d to the current path", toB, toA)
	}
	if b.sent[addrB]+probeSize > 3*b.received[addrB] {
		t.Errorf("sent %d for %d: no room for a challenge", b.sent[addrB], b.received[addrB])
	}
}

// An authentic duplicate from elsewhere: an alarm and one CHALLENGE each PTO, to
// the current path only.
func TestForwardingAlarm(t *testing.T) {
	m := opened(t, 5)
	var c capture
	m.network = c.drop
	pkt := m.craft(&m.c, pingFrame(1))
	m.inject(addrA, pkt)
	c.take()
	pto := m.s.rtt.pto()
	for range 5 {
		for range 10 {
			if r := m.inject(addrX, pkt); r != ReplayDuplicate {
				t.Fatal(r)
			}
		}
		sent := c.take()
		if len(sent) != 1 || sent[0].dst != addrA {
			t.Fatalf("sent %v", sent)
		}
		cookie, n := cookieOf(m.framesTo(sent, addrA))
		if n != 1 {
			t.Fatal("no CHALLENGE")
		}
		m.inject(addrX, m.craft(&m.c, wire.AppendResponse(nil, cookie)))
		m.inject(addrA, m.craft(&m.c, wire.AppendResponse(nil, cookie)))
		m.now += pto
		m.s.Tick(m.now, &m.s.out)
		m.flush(&m.s)
		c.take()
	}
	if i := m.s.Info(); i.ForwardingAlarms != 5 || i.Moves.Started != 0 || i.Counts[AnswerElsewhere] != 5 {
		t.Errorf("%d alarms, %+v, %d answers from elsewhere", i.ForwardingAlarms, i.Moves, i.Counts[AnswerElsewhere])
	}
	m.inject(addrA, pkt) // the network's own duplicate
	if len(c.take()) != 0 {
		t.Error("alarm for a duplicate on the current path")
	}
}

// A probing packet is answered to its source at no larger size, and moves
// neither the path nor the newest gate nor the retirement of ids.
func TestProbing(t *testing.T) {
	m := opened(t, 5)
	var c capture
	m.network = c.drop
	cookie := wire.Cookie{9}
	spare := m.c.spare(m.c.path)
	probe := m.craftOn(&m.c, spare, wire.AppendChallenge(nil, cookie))
	newest := m.s.newest
	if r := m.inject(addrB, probe); r != Probed {
		t.Error(r)
	}
	sent := c.take()
	frames := m.framesTo(sent, addrB)
	if len(frames) != 1 || frames[0].Type != wire.FrameResponse || frames[0].Cookie != cookie {
		t.Errorf("answer %v", frames)
	}
	for _, f := range sent {
		if f.dst == addrB && len(f.data) > len(probe) {
			t.Errorf("%d bytes for %d", len(f.data), len(probe))
		}
	}
	if m.s.newest != newest || m.s.Info().NumCandidates != 0 || m.s.local[0].superseded {
		t.Error("a probe moved the gate, the path or the ids")
	}
	_, onID, _ := wire.ParseData(sent[0].data)
	if onID == m.s.rid.ID {
		t.Error("a probe on a newer id was answered on the current path's id")
	}
	// The id is kept for that source if it becomes a candidate.
	m.inject(addrB, m.craftOn(&m.c, spare, pingFrame(3)))
	for _, f := range c.take() {
		if _, id, _ := wire.ParseData(f.data); f.dst == addrB && id != onID {
			t.Error("the candidate got another id than its probe")
		}
	}
	if m.s.Info().NumCandidates != 1 {
		t.Error("no candidate")
	}
	// On the current id the answer comes on the current path's.
	c.take()
	m.inject(addrX, m.craft(&m.c, wire.AppendChallenge(nil, cookie)))
	for _, f := range c.take() {
		if _, id, _ := wire.ParseData(f.data); f.dst == addrX && id != m.s.rid.ID {
			t.Error("a probe on the current id was answered on another")
		}
	}
}

// A PONG goes to where its PING came from if that is the current path or a
// candidate, else to the current path.
func TestPongGoesHome(t *testing.T) {
	b := beginMove(t)
	b.answer(addrA, wire.AppendResponse, b.cookieA) // B is backed off
	b.take()
	b.inject(addrB, b.craft(&b.c, pingFrame(5)))
	sent := b.take()
	if len(b.framesTo(sent, addrB)) != 0 {
		t.Error("something to a source that is no candidate")
	}
	if f := b.framesTo(sent, addrA); len(f) != 1 || f[0].Type != wire.FramePong || f[0].Token != 5 {
		t.Errorf("to the current path: %v", f)
	}
}

func TestRebinding(t *testing.T) {
	m := opened(t, 6)
	m.rebind(addrB)
	m.clientSend("moved")
	m.run(m.rtt * 2)
	m.s.wants(t, "rebinding", EventMoveCommitted, 1)
	if m.slots[m.s.Info().LocalID] != addrB || m.s.Path().Remote != addrB {
		t.Errorf("path %v, slots %v", m.s.Path(), m.slots)
	}
	if m.s.Info().LocalSeq != 0 || m.s.Info().RemoteSeq != 0 {
		t.Error("a rebinding changed ids")
	}
	m.run(time.Second)
	if m.c.Info().Observed != addrB {
		t.Errorf("observed %v", m.c.Info().Observed)
	}
	m.serverSend("hello")
	m.run(time.Second)
	if len(m.c.got) != 1 {
		t.Error("nothing came")
	}
}

// A deliberate move: new ids both ways with counters from 0, and the old path
// says NOT_PREFERRED.
func TestMove(t *testing.T) {
	m := opened(t, 7)
	var onA, onB [][]byte
	m.network = func(f flight) []flight {
		switch {
		case f.src == addrA || f.dst == addrA:
			onA = append(onA, f.data)
		default:
			onB = append(onB, f.data)
		}
		return []flight{f}
	}
	m.clientSend("before")
	m.serverSend("before")
	m.run(time.Second)
	m.move(2, addrB)
	m.clientSend("first on the new path")
	m.run(time.Second)
	m.serverSend("answer")
	m.run(time.Second)
	m.c.wants(t, "move", EventMoveStarted, 1)
	m.c.wants(t, "move", EventMoveCommitted, 1)
	m.s.wants(t, "move", EventMoveCommitted, 1)
	m.s.wants(t, "move", EventMoveReverted, 0)
	ci, si := m.c.Info(), m.s.Info()
	if ci.RemoteSeq != 1 || si.RemoteSeq != 1 || si.LocalSeq != 1 || ci.LocalSeq != 1 {
		t.Errorf("ids %+v %+v", ci, si)
	}
	if si.Path.Remote != addrB || m.slots[si.LocalID] != addrB {
		t.Errorf("server on %v", si.Path)
	}
	if got := m.c.got[len(m.c.got)-1]; got != "answer" {
		t.Errorf("got %q", m.c.got)
	}
	seen := map[string]bool{}
	for _, p := range onA {
		for i := 8; i+8 <= len(p); i++ {
			seen[string(p[i:i+8])] = true
		}
	}
	for _, p := range onB {
		for i := 8; i+8 <= len(p); i++ {
			if seen[string(p[i:i+8])] {
				t.Fatalf("the two networks share %x", p[i:i+8])
			}
		}
	}
	// The old ids are retired and replaced, the old socket given free.
	m.run(10 * time.Second)
	m.c.wants(t, "move", EventPathReleased, 1)
	if ci, si := m.c.Info(), m.s.Info(); ci.LocalIDs != 3 || si.LocalIDs != 3 || ci.SpareRemoteIDs != 2 || si.SpareRemoteIDs != 2 {
		t.Errorf("live %d and %d, spare %d and %d", ci.LocalIDs, si.LocalIDs, ci.SpareRemoteIDs, si.SpareRemoteIDs)
	}
	if len(m.c.remote) != 3 || len(m.s.remote) != 3 {
		t.Errorf("held %d and %d ids of the peer", len(m.c.remote), len(m.s.remote))
	}
}

// While the old network is gone the move does not wait for it.
func TestMoveWithoutOldPath(t *testing.T) {
	m := opened(t, 7)
	delete(m.socket, 1)
	m.move(2, addrB)
	start := m.now
	m.run(2 * time.Second)
	if got := m.s.Info().Moves.LastCommitted - start; got != m.rtt*3/2 {
		t.Errorf("committed after %v, want 1.5 RTT", got)
	}
}

// A train of moves faster than the round trip ends at the last place.
func TestTrainOfMoves(t *testing.T) {
	for _, rebind := range []bool{false, true} {
		m := opened(t, 8)
		places := []netip.AddrPort{addrB, addrC, addrX, addrB, addrA, addrC, addrB}
		for i, a := range places {
			if rebind {
				m.rebind(a)
				m.clientSend("here")
			} else {
				m.move(uint32(2+i), a)
			}
			m.run(m.rtt / 8)
		}
		if rebind {
			m.clientSend("last")
		}
		m.run(m.rtt * 5 / 2)
		if got := m.s.Path().Remote; got != addrB {
			t.Errorf("rebind %v: ended at %v", rebind, got)
		}
		m.serverSend("found you")
		m.run(time.Second)
		if len(m.c.got) == 0 {
			t.Errorf("rebind %v: nothing came", rebind)
		}
		m.run(time.Minute / 2)
		if n := m.s.Info().LocalIDs; n != 3 {
			t.Errorf("rebind %v: %d live ids", rebind, n)
		}
	}
}

// The forwarder of RFC 9000 section 9.3.3: it delivers copies from its own
// address sooner than the originals, and relays what comes back.
func TestForwarder(t *testing.T) {
	m := opened(t, 9)
	m.trace = testing.Verbose()
	attacking := true
	m.network = func(f flight) []flight {
		if f.toServer && attacking {
			copied := f
			copied.src, copied.at = addrX, f.at-m.rtt/4
			return []flight{f, copied}
		}
		if !f.toServer && f.dst == addrX {
			f.dst = addrA
		}
		return []flight{f}
	}
	for range 20 {
		m.clientSend("victim")
		m.run(m.rtt / 2)
	}
	attacking = false
	m.run(m.rtt)
	m.clientSend("alone again")
	m.run(2 * m.rtt)
	if m.s.Path().Remote != addrA {
		t.Errorf("on %v", m.s.Path())
	}
	if m.s.Info().ForwardingAlarms == 0 {
		t.Error("no alarm")
	}
}

// On a client only a known address of the server may take the session.
func TestServerAddresses(t *testing.T) {
	m := opened(t, 10)
	other := netip.MustParseAddrPort("[2001:db8:7::1]:7626")
	receive := func(from netip.AddrPort, frames []byte) {
		m.c.Receive(m.now, Path{Socket: 1, Remote: from}, m.craft(&m.s, frames), &m.c.out)
		m.flush(&m.c)
	}
	receive(other, wire.AppendDatagram(nil, []byte("from elsewhere")))
	if len(m.c.got) != 1 || m.c.Info().NumCandidates != 0 || m.c.Info().Counts[UnknownServer] != 1 {
		t.Errorf("got %q, %d candidates", m.c.got, m.c.Info().NumCandidates)
	}
	receive(serverAddr, wire.AppendAddrs(nil, []netip.AddrPort{other}))
	if !slices.Equal(m.c.ServerAddrs(), []netip.AddrPort{other}) {
		t.Errorf("known %v", m.c.ServerAddrs())
	}
	var toOther [][]byte
	m.network = func(f flight) []flight {
		if f.dst == other {
			toOther = append(toOther, f.data)
		}
		return nil
	}
	receive(other, pingFrame(1))
	if m.c.Info().NumCandidates != 1 || len(toOther) != 1 {
		t.Fatalf("%d candidates, %d packets there", m.c.Info().NumCandidates, len(toOther))
	}
	counter, id, _ := wire.ParseData(toOther[0])
	plain, _ := m.s.open(m.s.findLocal(&id), counter, toOther[0])
	var f wire.Frame
	for r := wire.NewFrameReader(plain); r.Next(&f); {
		if f.Type == wire.FrameChallenge {
			receive(other, wire.AppendResponse(nil, f.Cookie))
		}
	}
	if m.c.Path().Remote != other {
		t.Errorf("sends to %v", m.c.Path())
	}
}

// On a path that it has left a client sends only probing packets, on the id last
// used there; what else the server asks there is answered on the current path.
func TestLeftPath(t *testing.T) {
	m := opened(t, 11)
	oldID := m.c.rid.ID
	m.network = func(f flight) []flight { return nil }
	m.move(2, addrB)
	receive := func(socket uint32, frames []byte) []Packet {
		m.c.Receive(m.now, Path{Socket: socket, Remote: serverAddr}, m.craft(&m.s, frames), &m.c.out)
		sent := slices.Clone(m.c.out.Packets)
		for i := range sent {
			sent[i].Data = slices.Clone(sent[i].Data)
		}
		m.flush(&m.c)
		return sent
	}
	frames := func(p Packet) (id wire.ID, types []wire.FrameType) {
		counter, id, _ := wire.ParseData(p.Data)
		plain, ok := m.s.open(m.s.findLocal(&id), counter, p.Data)
		if !ok {
			t.Fatal("does not open")
		}
		var f wire.Frame
		for r := wire.NewFrameReader(plain); r.Next(&f); {
			types = append(types, f.Type)
		}
		return id, types
	}
	sent := receive(1, wire.AppendChallenge(pingFrame(1), wire.Cookie{7}))
	if len(sent) != 2 {
		t.Fatalf("%d packets", len(sent))
	}
	for _, p := range sent {
		id, types := frames(p)
		switch p.Path.Socket {
		case 1:
			if id != oldID || !slices.Equal(types, []wire.FrameType{wire.FrameNotPreferred}) {
				t.Errorf("on the left path: %v on id %v", types, id)
			}
		case 2:
			if id == oldID || !slices.Equal(types, []wire.FrameType{wire.FramePong}) {
				t.Errorf("on the current path: %v on id %v", types, id)
			}
		}
	}
	if sent := receive(2, wire.AppendChallenge(nil, wire.Cookie{8})); len(sent) != 1 {
		t.Errorf("%d answers on the current path", len(sent))
	} else if _, types := frames(sent[0]); !slices.Equal(types, []wire.FrameType{wire.FrameResponse}) {
		t.Errorf("on the current path: %v", types)
	}
	if sent := receive(9, wire.AppendChallenge(nil, wire.Cookie{9})); len(sent) != 0 || m.c.Info().Counts[NoAnswerSocket] != 1 {
		t.Errorf("%d answers on a socket never used", len(sent))
	}
	if i := m.c.Info(); i.NumCandidates != 0 || i.Path.Socket != 2 {
		t.Error("packets on the left socket moved the client")
	}
	m.run(3*minDeadline + 1)
	if sent := receive(1, wire.AppendChallenge(nil, wire.Cookie{7})); len(sent) != 0 {
		t.Error("the released path still answers")
	}
}

// A return rewrites the slot of every id that the loser had.
func TestReturnCommits(t *testing.T) {
	m := opened(t, 12)
	c := &capture{}
	m.network = c.drop
	window := 3 * max(m.s.rtt.pto(), minPreferred)
	m.inject(addrB, m.craftOn(&m.c, m.c.spare(m.c.path), pingFrame(1)))
	sent := c.take()
	cookieB, _ := cookieOf(m.framesTo(sent, addrB))
	cookieA, _ := cookieOf(m.framesTo(sent, addrA))
	m.inject(addrB, m.craft(&m.c, wire.AppendResponse(nil, cookieB)))
	if got := m.s.departures[0].until - m.now; got != window {
		t.Errorf("the old path may claim the session for %v, want %v", got, window)
	}
	loser := m.s.Info().LocalID
	if m.slots[loser] != addrB {
		t.Fatal("not moved")
	}
	m.inject(addrA, m.craft(&m.c, wire.AppendResponse(nil, cookieA)))
	m.s.wants(t, "return", EventMoveReverted, 1)
	if m.slots[loser] != addrA || m.slots[m.s.Info().LocalID] != addrA {
		t.Errorf("slots %v", m.slots)
	}
	if m.s.rid.Seq < m.s.sentSeq {
		t.Error("the server sends on an id that the client may have retired")
	}
}

func TestMoveErrors(t *testing.T) {
	m := newSim(t, 1)
	to := Path{Socket: 2, Remote: serverAddr}
	if err := m.c.Move(0, to, &m.c.out); !errors.Is(err, ErrNotConfirmed) {
		t.Error(err)
	}
	if err := m.s.Move(0, to, &m.s.out); !errors.Is(err, ErrNotClient) {
		t.Error(err)
	}
	m.run(time.Second)
	if err := m.c.Move(m.now, m.c.Path(), &m.c.out); !errors.Is(err, ErrSamePath) {
		t.Error(err)
	}
	m.c.Close(m.now, wire.CloseDone, "", &m.c.out)
	if err := m.c.Move(m.now, to, &m.c.out); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
