// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

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
	var want []Time // until 3 max(PTO, 1 s)
	for at := pto; at < 3*time.Second; at *= 2 {
		want = append(want, at)
	}
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
	if len(s.backedOffs()) != maxBackoffs || !s.backedOff(10, at(9)) || !s.backedOff(10, at(6)) || s.backedOff(10, at(5)) {
		t.Errorf("%v", s.backedOffs())
	}
	// Long forgotten: the period starts over.
	s.backOff(time.Second, at(9))
	var later Time
	for i := range s.backedOffs() {
		if s.backedOffs()[i].path == at(9) {
			later = s.backedOffs()[i].until + maxBackoff
		}
	}
	s.backOff(later, at(9))
	if s.backedOff(later+minBackoff, at(9)) {
		t.Error("the period did not start over")
	}
}

// A candidate that comes to a newer id, from a rebinding to a move of its own, is
// answered on a fresh one, and its newer id is what the slot table hears of.
func TestCandidateOnNewerID(t *testing.T) {
	b := beginMove(t)
	b.inject(addrB, b.craftOn(&b.c, b.c.spare(b.c.path), pingFrame(1)))
	for _, f := range b.take() {
		if _, id, _ := wire.ParseData(f.data); f.dst == addrB && id == b.s.rid.ID {
			t.Error("the candidate is answered on the current path's id")
		}
	}
	b.answer(addrB, wire.AppendResponse, b.cookieB)
	b.path(t, "candidate on a newer id", addrB)
	if i := b.s.Info(); i.LocalSeq != 1 || i.RemoteSeq != 1 {
		t.Errorf("moved with id %d, sends on %d, want 1 and 1", i.LocalSeq, i.RemoteSeq)
	}
}

// A CHALLENGE that the budget did not allow was not sent: the candidate's next
// packet gets it at once.
func TestChallengeOverBudget(t *testing.T) {
	b := beginMove(t)
	c := b.s.findCandidate(Path{Remote: addrB})
	c.ledger.sent = 3 * c.ledger.received
	b.run(b.s.rtt.pto() + 1)
	if n := b.s.Info().Counts[OverBudget]; n != 1 {
		t.Fatalf("over budget %d times", n)
	}
	b.take()
	b.inject(addrB, b.craft(&b.c, pingFrame(1)))
	if _, n := cookieOf(b.framesTo(b.take(), addrB)); n != 1 {
		t.Errorf("%d challenges", n)
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

// A packet that ends the session, in good order or against the protocol, starts no
// move: nothing is asked, nobody is told of a candidate, and the one answer goes to
// the current path.
func TestEndStartsNoMove(t *testing.T) {
	var noise [wire.RekeyNoiseLen]byte
	other := wire.Cookie{1}
	for name, tt := range map[string]struct {
		frames []byte
		want   Reason
		answer wire.FrameType
	}{
		"CLOSE":                   {wire.AppendClose(pingFrame(1), wire.CloseDone, ""), Delivered, wire.FramePong},
		"CLOSE before its PING":   {append(wire.AppendClose(nil, wire.CloseDone, ""), pingFrame(1)...), Delivered, wire.FramePong},
		"CLOSE after a CHALLENGE": {wire.AppendClose(wire.AppendChallenge(pingFrame(1), other), wire.CloseDone, ""), Delivered, wire.FramePong},
		"a frame of no type":      {append(pingFrame(1), 0x3f), ProtocolError, wire.FrameClose},
		"a gap in the ids":        {wire.AppendNewID(pingFrame(1), 9, wire.ID{}, wire.Token{}), ProtocolError, wire.FrameClose},
		"another id":              {wire.AppendNewID(pingFrame(1), 1, wire.ID{}, wire.Token{}), ProtocolError, wire.FrameClose},
		"an epoch skipped":        {wire.AppendRekeyInit(pingFrame(1), 7, 3, noise), ProtocolError, wire.FrameClose},
	} {
		m := opened(t, 5)
		var c capture
		m.network = c.drop
		m.forget()
		if r := m.inject(addrB, m.craft(&m.c, tt.frames)); r != tt.want {
			t.Errorf("%s: %v", name, r)
		}
		sent := c.take()
		if f := m.framesTo(sent, addrA); len(f) == 0 || !slices.ContainsFunc(f, func(f wire.Frame) bool { return f.Type == tt.answer }) {
			t.Errorf("%s: to the current path: %v", name, f)
		}
		for _, f := range m.framesTo(sent, addrA) {
			if f.Type == wire.FrameChallenge {
				t.Errorf("%s: the current path was challenged", name)
			}
		}
		for _, f := range m.framesTo(sent, addrB) {
			if f.Type != wire.FrameResponse { // probes are answered to their source
				t.Errorf("%s: %v to the source", name, f.Type)
			}
		}
		if m.s.count(EventMoveStarted) != 0 || m.s.count(EventClosed) != 1 || m.s.Info().Moves.Started != 0 {
			t.Errorf("%s: events %+v", name, m.s.events)
		}
	}
	// Nor does an answer in such a packet move anything.
	b := beginMove(t)
	b.inject(addrB, b.craft(&b.c, wire.AppendClose(wire.AppendResponse(pingFrame(1), b.cookieB), wire.CloseDone, "")))
	b.path(t, "RESPONSE beside CLOSE", addrA)
	b.s.wants(t, "RESPONSE beside CLOSE", EventMoveCommitted, 0)
	if f := b.framesTo(b.take(), addrB); len(f) != 1 || f[0].Type != wire.FramePong {
		t.Errorf("to the candidate that said CLOSE: %v", f)
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
	plain, _ := m.s.open(m.s.findLocal(&id), counter, toOther[0], nil, new(Output))
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

// Whatever wants to send: nothing goes to a candidate beyond its budget.
func TestBudgetHolds(t *testing.T) {
	b := beginMove(t)
	c := b.s.findCandidate(Path{Remote: addrB})
	c.ledger.sent = 3*c.ledger.received - probeSize + 1
	b.s.sendChallenge(b.now, &b.s.out, c.path, c.rid, wire.Cookie{})
	if len(b.s.out.Packets) != 0 || b.s.Info().Counts[OverBudget] != 1 {
		t.Error("one byte too many was sent")
	}
	c.ledger.sent--
	b.s.sendChallenge(b.now, &b.s.out, c.path, c.rid, wire.Cookie{})
	if len(b.s.out.Packets) != 1 || c.ledger.sent != 3*c.ledger.received {
		t.Error("the last byte of the budget was not given out")
	}
}
