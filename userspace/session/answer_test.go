// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

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
		{"still preferred after the switch, from elsewhere", func(b begun) {
			b.answer(addrB, response, b.cookieB)
			b.answer(addrX, response, b.cookieA)
		}, addrB, AnswerElsewhere},
		{"the loser of a return is backed off", func(b begun) {
			b.answer(addrB, response, b.cookieB)
			b.answer(addrA, response, b.cookieA)
			b.inject(addrB, b.craft(&b.c, pingFrame(1)))
		}, addrA, BackedOff},
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

// A search for the path MTU that a switch has cut off is not taken for a failure
// after the return.
func TestReturnEndsSearch(t *testing.T) {
	b := beginMove(t)
	b.s.probeMTU(b.now, 1472, &b.s.out)
	b.flush(&b.s)
	b.answer(addrB, wire.AppendResponse, b.cookieB)
	b.answer(addrA, wire.AppendResponse, b.cookieA)
	b.path(t, "return", addrA)
	b.take()
	b.run(time.Second)
	for _, f := range b.take() {
		if len(f.data) >= 1472 {
			t.Error("the probe went again")
		}
	}
	if h := b.s.mtu.search; h == nil || h.tooBig <= 1472 {
		t.Errorf("the search after the return: %+v", h)
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
