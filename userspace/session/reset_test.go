// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// resetWith is a reset that ends with a token.
func resetWith(m *sim, token wire.Token) []byte {
	b := make([]byte, 41+m.rng.IntN(8))
	fill(m.rng, b)
	b[0] = wire.TypeData
	copy(b[len(b)-len(token):], token[:])
	return b
}

func (m *sim) clientGets(b []byte) Reason {
	r := m.c.Receive(m.now, m.c.Path(), b, &m.c.out)
	m.flush(&m.c)
	return r
}

// The vectors' reset ends the session that the vectors' server lost.
func TestVectorResetEnds(t *testing.T) {
	var v struct {
		Reset struct{ ID, Packet, Token string }
	}
	loadJSON(t, &v)
	m := opened(t, 1)
	m.c.rid.Reset = wire.Token(unhex(t, v.Reset.Token))
	if r := m.clientGets(unhex(t, v.Reset.Packet)); r != StatelessReset || !m.c.ended {
		t.Errorf("%v, %v", r, m.c.State())
	}
}

func TestReset(t *testing.T) {
	m := opened(t, 1)
	// What a server sends that has lost its memory: the token is all that it knows.
	key := [32]byte{1}
	m.c.rid.Reset = handshake.ResetToken(key, m.c.rid.ID)
	packet, ok := handshake.AppendReset(nil, key, m.c.rid.ID, 49)
	if !ok {
		t.Fatal("no reset")
	}
	m.clientSend("x")
	if r := m.clientGets(packet); r != StatelessReset {
		t.Fatal(r)
	}
	m.c.wants(t, "reset", EventReset, 1)
	m.c.wants(t, "reset", EventEnded, 1)
	m.c.wants(t, "reset", EventClosed, 0)
	if m.c.State() != StateEnded || len(m.c.ids.live) != 0 {
		t.Errorf("%v, %d ids", m.c.State(), len(m.c.ids.live))
	}
	if err := m.clientSend("x"); err != ErrClosed {
		t.Error(err)
	}
	// Once, and never again.
	if r := m.clientGets(packet); r != UnknownID || m.c.count(EventReset) != 1 {
		t.Error(r)
	}
}

// Only ids that the client sends on can end its session.
func TestResetTokens(t *testing.T) {
	m := opened(t, 1)
	m.run(time.Second)
	left := m.c.rid
	own := m.c.local[0]
	m.move(2, addrB)
	m.run(time.Second)
	if m.c.rid == left || m.c.findLeft(Path{Socket: 1, Remote: serverAddr}) == nil {
		t.Fatal("the client has not moved")
	}
	m.forget()
	for name, token := range map[string]wire.Token{
		"an id left behind":                   left.Reset, // the server may have retired it
		"an id of our own":                    own.Reset,
		"no token":                            {},
		"a spare id that carries nothing yet": m.c.spare(m.c.path).Reset,
	} {
		if r := m.clientGets(resetWith(m, token)); r != UnknownID {
			t.Errorf("%s: %v", name, r)
		}
	}
	if m.c.State() != StateOpen || len(m.c.events) != 0 {
		t.Fatalf("%v %v", m.c.State(), m.c.events)
	}
	// A retired id's too, once the server has done with it.
	m.run(10 * time.Second)
	if r := m.clientGets(resetWith(m, left.Reset)); r != UnknownID {
		t.Error(r)
	}
	// One bit less is none.
	for bit := range 128 {
		token := m.c.rid.Reset
		token[bit/8] ^= 1 << (bit % 8)
		if r := m.clientGets(resetWith(m, token)); r != UnknownID {
			t.Fatalf("bit %d: %v", bit, r)
		}
	}
	// A probing id of a race counts: the server's answer to it may be the reset.
	m.c.Race(m.now, []Path{{Socket: 9, Remote: serverAddr}}, &m.c.out)
	m.flush(&m.c)
	if r := m.clientGets(resetWith(m, m.c.race.runners[0].rid.Reset)); r != StatelessReset {
		t.Error("race:", r)
	}
	m.c.wants(t, "race", EventPathReleased, 2) // the left one and the race's
	// Not so an id that the server may have retired since, nor one unused so far.
	m = opened(t, 1)
	m.network = cut
	m.c.issue(m.now, 1)
	m.c.Race(m.now, []Path{{Socket: 9, Remote: serverAddr}}, &m.c.out)
	asked := m.c.race.runners[0].rid
	m.c.rotate()
	if r := m.clientGets(resetWith(m, m.c.rid.Reset)); r != UnknownID {
		t.Error("an id that carried nothing:", r)
	}
	m.clientSend("x")
	if m.c.rid.Seq < asked.Seq {
		t.Fatal("the race took the later id")
	}
	if !slices.Contains(m.c.remote, asked) {
		t.Error("the id of a race is forgotten while it runs")
	}
	if r := m.clientGets(resetWith(m, asked.Reset)); r != UnknownID {
		t.Error("an id below one in use:", r)
	}
	// A server has nobody that resets it.
	m = opened(t, 1)
	if r := m.inject(addrA, resetWith(m, m.s.rid.Reset)); r != UnknownID || m.s.State() != StateOpen {
		t.Errorf("server: %v %v", r, m.s.State())
	}
	// A session that says CLOSE ends without it.
	m = opened(t, 1)
	m.c.Close(m.now, wire.CloseDone, "", &m.c.out)
	m.flush(&m.c)
	m.forget()
	if r := m.clientGets(resetWith(m, m.c.rid.Reset)); r != StatelessReset || m.c.count(EventReset) != 0 || !m.c.ended {
		t.Errorf("closing: %v %v", r, m.c.events)
	}
}

// 2^20 forged resets end nothing and are counted; neither does what an attacker
// gets for a retired id that he saw.
func TestThreatResetInjection(t *testing.T) {
	m := opened(t, 1)
	n := 1 << 20
	if testing.Short() {
		n = 1 << 14
	}
	b := make([]byte, 48)
	for i := range n {
		fill(m.rng, b[:24])
		b[0] = wire.TypeData
		if i%3 == 0 { // of an id that lives
			copy(b[8:24], m.c.local[0].ID[:])
			b[1], b[2], b[3], b[4] = 0, 0, 0, 0
		}
		fill(m.rng, b[24:])
		if i%2 == 0 { // half of a token guessed
			copy(b[40:], m.c.rid.Reset[8:])
		}
		if r := m.c.Receive(m.now, m.c.Path(), b[:41+i%8], &m.c.out); r != UnknownID && r != AuthFailed {
			t.Fatal(r)
		}
	}
	i := m.c.Info()
	if m.c.State() != StateOpen || int(i.Counts[UnknownID]+i.Counts[AuthFailed]) != n || len(m.c.out.Events) != 0 {
		t.Errorf("%v, %d and %d of %d counted", m.c.State(), i.Counts[UnknownID], i.Counts[AuthFailed], n)
	}
	m.talk(2 * time.Second)
}

// The tokens of the old epoch end with it.
func TestResetAfterRekey(t *testing.T) {
	m := opened(t, 1)
	old := slices.Clone(m.c.remote)
	m.c.Rekey(m.now, &m.c.out)
	m.flush(&m.c)
	m.talk(20 * time.Second)
	for _, r := range old {
		if got := m.clientGets(resetWith(m, r.Reset)); got != UnknownID {
			t.Errorf("id %d: %v", r.Seq, got)
		}
	}
	if got := m.clientGets(resetWith(m, m.c.rid.Reset)); got != StatelessReset {
		t.Error(got)
	}
}
