// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Forged packets from the session's own address put its id, and no other, under
// the candidates' limit.
func TestPolice(t *testing.T) {
	f, s, packets := newFeedOf(t, 1, 100, 1)
	srv := s.srv
	bystander := dial(t, srv, "127.0.0.1", nil)
	b := accept(t, srv)
	talk(t, b, bystander, "before")
	_, id, err := wire.ParseData(packets[0])
	if err != nil {
		t.Fatal(err)
	}
	flags := func(id wire.ID) maps.Flags {
		t.Helper()
		slot, err := srv.table.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		return slot.Flags
	}
	forged := make([][]byte, batchSize)
	for i := range forged {
		forged[i] = dataOn(id, 100)
	}
	now := srv.clock.now()
	elsewhere := &feed{f.r, newSocket(t, "127.0.0.1", srv).conn.LocalAddr()}
	for range 2 * failureBurst / batchSize {
		elsewhere.batch(now, forged)
	}
	for range failureBurst / batchSize {
		f.batch(now, forged)
	}
	if got := flags(id); got != 0 {
		t.Fatalf("after a burst from its own address, and a flood from elsewhere: %v", got)
	}
	f.batch(now, forged)
	if got := flags(id); got != maps.FlagPolice {
		t.Errorf("after a flood from its own address: %v", got)
	}
	if got := flags(b.Info().LocalID); got != 0 {
		t.Errorf("a bystander's id: %v", got)
	}
	f.batch(now+time.Second, forged)
	if n := srv.Stats().Policed; n != 1 {
		t.Errorf("%d ids policed", n)
	}
	f.batch(now, packets) // on the id that it had: its client has not heard yet
	if n := s.Info().Counts[session.AuthFailed]; n == 0 || s.Info().Received.Datagrams != 2 {
		t.Errorf("the session's own packet did not come in: %+v", s.Info().Received)
	}
}

// THREATS: whose id was sniffed gets another one, in both directions, as often as
// that happens; the one under attack is policed until it is retired.
func TestPolicedSessionMovesOn(t *testing.T) {
	t.Parallel()
	srv := listen(t, func(c *Config) { c.Workers = 1 })
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	w := srv.workers[0]
	flood := &feed{newReader(w, maps.LaneMain, w.conn, new(counters)), c.sockets[0].conn.LocalAddr()}
	clients := func() wire.ID {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state.Info().LocalID
	}
	for round := range uint64(3) {
		old, oldOfClient := s.Info().LocalID, clients()
		forged := make([][]byte, batchSize)
		for i := range forged {
			forged[i] = dataOn(old, 100)
		}
		for range failureBurst/batchSize + 1 {
			flood.batch(srv.clock.now(), forged)
		}
		if n := srv.Stats().Policed; n != round+1 {
			t.Fatalf("flood %d: %d ids policed", round, n)
		}
		if slot, err := srv.table.Get(old); err != nil || slot.Flags != maps.FlagPolice {
			t.Errorf("flood %d: the id under attack: %+v, %v", round, slot, err)
		}
		// Nobody says anything meanwhile.
		eventually(t, "the client sends on another id", func() bool { return s.Info().LocalID != old })
		if clients() == oldOfClient {
			t.Error("what the server sends can still be told by the old id")
		}
		if slot, err := srv.table.Get(s.Info().LocalID); err != nil || slot.Flags != 0 || slot.Addr() != s.RemoteAddr() {
			t.Errorf("flood %d: the new id's slot: %+v, %v", round, slot, err)
		}
		talk(t, s, c, "during")
		if _, id, _ := wire.ParseData(c.lastPacket()); id == old {
			t.Errorf("flood %d: the client still sends on the old id", round)
		}
		eventually(t, "the id under attack is retired, though its flood goes on", func() bool {
			flood.batch(srv.clock.now(), forged[:1])
			_, tag := srv.table.Find(old)
			return tag == maps.TagOurs
		})
	}
	talk(t, s, c, "after")
}

// Who floods two ids of one session in turn has each of them policed once: his
// packets do not become as many PINGs to the client.
func TestPoliceIdsInTurn(t *testing.T) {
	srv := newBareServer(t, maps.MinSlots)
	p := srv.open(t, 1)
	var ids []wire.ID
	p.s.state.LocalIDs(func(id wire.ID) { ids = append(ids, id) })
	if len(ids) < 2 {
		t.Fatalf("%d ids", len(ids))
	}
	answers := 0
	srv.answer = func(netio.Message) { answers++ }
	now := srv.clock.now()
	const floods = 10 * failureBurst
	for n := range floods {
		srv.reader.batch(now, []netio.Message{srv.message(p, dataOn(ids[n%len(ids)], 41))})
	}
	if got := srv.Stats().Policed; got != uint64(len(ids)) {
		t.Errorf("%d ids policed, of %d", got, len(ids))
	}
	if answers > len(ids) {
		t.Errorf("%d packets to the client for %d forged ones", answers, floods)
	}
}
