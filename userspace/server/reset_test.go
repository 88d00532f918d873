// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// goneID returns an id of the server whose session is gone.
func goneID(t testing.TB, srv *Server) wire.ID {
	t.Helper()
	id, _, err := srv.table.Allocate(maps.KindROAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.table.Retire(id); err != nil {
		t.Fatal(err)
	}
	return id
}

func dataOn(id wire.ID, size int) []byte {
	pkt := make([]byte, size)
	wire.PutDataHeader(pkt, 7, id)
	return pkt
}

// A reset is shorter than what it answers, at most 48 bytes, random but for its
// first byte and its token.
func TestReset(t *testing.T) {
	state := handshake.NewState(handshake.NewStateSecret())
	srv := listen(t, func(c *Config) { c.State = state })
	id := goneID(t, srv)
	token := handshake.ResetToken(state.ResetKey(0), id)
	s := newSocket(t, "127.0.0.1", srv)
	seen := map[string]bool{}
	for _, size := range []int{42, 43, 48, 49, 50, wire.MaxPacket} {
		s.send(dataOn(id, size))
		pkt := s.read(patience)
		if len(pkt) < wire.MinData || len(pkt) > 48 || len(pkt) >= size || pkt[0] != wire.TypeData || !bytes.HasSuffix(pkt, token[:]) {
			t.Fatalf("%d bytes were answered by %x; the token is %x", size, pkt, token)
		}
		if middle := string(pkt[1:25]); seen[middle] {
			t.Errorf("%d bytes: the same random bytes again", size)
		} else {
			seen[middle] = true
		}
	}
	s.send(dataOn(id, 41))
	s.silence("41 bytes")
	s.send(dataOn(wire.ID{1}, 1000))
	s.silence("an id that is not ours")
	count(t, srv, ResetSent, 6)
	count(t, srv, IDGone, 1)
	count(t, srv, IDForged, 1)
}

// Resets are a trickle whatever the flood: 10,000 a second after a burst.
func TestResetRate(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Workers = 1 })
	id := goneID(t, srv)
	sink := newSocket(t, "127.0.0.1", srv)
	r := newReader(srv.workers[0], maps.LaneHandshake, srv.workers[0].conn, srv.counts[0])
	f := &feed{r, sink.conn.LocalAddr()}
	packets := make([][]byte, batchSize)
	for i := range packets {
		packets[i] = dataOn(id, 60)
	}
	now := srv.clock.now()
	for _, step := range []struct {
		after time.Duration
		want  uint64
	}{{0, resetBurst}, {time.Second / 100, resetRate / 100}, {time.Hour, resetBurst}} {
		now += step.after
		before := srv.Stats().Packets
		for range 2 * resetBurst / batchSize {
			f.batch(now, packets)
		}
		after := srv.Stats().Packets
		if got := after[ResetSent] - before[ResetSent]; got != step.want {
			t.Errorf("%v later: %d resets, want %d", step.after, got, step.want)
		}
		if after[ResetLimit] == before[ResetLimit] {
			t.Errorf("%v later: no packet over the limit was counted", step.after)
		}
	}
}

// A server that starts with the state of one that died tells its clients, by the
// token that they were given with the id.
func TestResetAfterRestart(t *testing.T) {
	state := handshake.NewState(handshake.NewStateSecret())
	first := listen(t, func(c *Config) { c.State = state })
	init, cfg := newAttempt(t, first, nil)
	s := newSocket(t, "127.0.0.1", first)
	reply, _ := exchange(t, s, init)
	c := newClient(t, s, cfg, reply)
	talk(t, accept(t, first), c, "before")

	second := listen(t, func(c *Config) { c.State = state })
	at := newSocket(t, "127.0.0.1", second)
	at.send(c.lastPacket())
	if pkt := at.read(patience); !bytes.HasSuffix(pkt, reply.NewIDs[0].Reset[:]) {
		t.Errorf("the server after it answered %x; the token of the id is %x", pkt, reply.NewIDs[0].Reset)
	}
	// Another one knows nothing of the id.
	third := listen(t, nil)
	at = newSocket(t, "127.0.0.1", third)
	at.send(c.lastPacket())
	at.silence("an id of another state")
}

// Late packets of a closed session meet silence for 3 PTO, at least a second.
func TestClosedSessionIsSilent(t *testing.T) {
	t.Parallel()
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	late := c.lastPacket()
	s.Close(wire.CloseDone, "")
	c.closedWith()
	elsewhere := newSocket(t, "127.0.0.1", srv)
	elsewhere.send(late)
	elsewhere.silence("a late packet")
	eventually(t, "the session's slots are free", func() bool { return srv.table.Len() == 0 })
	elsewhere.send(late)
	if pkt := elsewhere.read(patience); pkt == nil {
		t.Error("after that time there is no reset")
	}
	count(t, srv, ResetSent, 1)
}
