// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// slots returns every live slot, by id.
func slots(srv *Server) map[maps.ID]maps.SlotInfo {
	m := make(map[maps.ID]maps.SlotInfo)
	srv.table.Scan(func(live []maps.SlotInfo) bool {
		for _, i := range live {
			m[i.ID] = i
		}
		return true
	})
	return m
}

// wantPath waits until the session, and the slot of the id that the client now
// uses, are at the client's socket i.
func wantPath(t *testing.T, srv *Server, s *Session, c *client, i int) {
	t.Helper()
	at := c.sockets[i].conn.LocalAddr()
	eventually(t, "the session is at its client's new address", func() bool {
		slot, err := srv.table.Get(s.Info().LocalID)
		return err == nil && s.RemoteAddr() == at && slot.Addr() == at
	})
}

// talk checks that datagrams pass both ways.
func talk(t *testing.T, s *Session, c *client, what string) {
	t.Helper()
	c.sendDatagram(what)
	if got := receive(t, s); got != what {
		t.Fatalf("to the server: %q, want %q", got, what)
	}
	if err := s.SendDatagram([]byte(what)); err != nil {
		t.Fatal(err)
	}
	if got := c.receive(); got != what {
		t.Fatalf("to the client: %q, want %q", got, what)
	}
}

// TestMove has the client change its address, with its knowledge and so with the next id.
func TestMove(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "at home")
	ids := map[wire.ID]bool{s.Info().LocalID: true}
	for n, local := range []string{"127.0.0.1", "::1", "127.0.0.2"} {
		i := c.addSocket(local, srv)
		c.move(i)
		talk(t, s, c, "at "+local)
		wantPath(t, srv, s, c, i)
		id := s.Info().LocalID
		if ids[id] {
			t.Errorf("move %d kept an id: it can be linked", n)
		}
		ids[id] = true
	}
	if st := srv.Stats(); st.RoamsStarted != 3 || st.RoamsCommitted != 3 {
		t.Errorf("%d roams started, %d committed", st.RoamsStarted, st.RoamsCommitted)
	} else if n := st.Switches.Count(); n != 3 || st.Switches.Sum <= 0 || st.Switches.Sum > time.Minute {
		t.Errorf("%d switches took %v", n, st.Switches.Sum)
	}
	info := s.Info()
	if info.Moves.Committed != 3 || time.Since(info.MoveCommitted) > time.Minute || info.MoveCommitted.Before(info.MoveStarted) {
		t.Errorf("moves %+v, started %v, committed %v", info.Moves, info.MoveStarted, info.MoveCommitted)
	}
}

// TestRebind changes the client's port without its knowledge, as a NAT does.
func TestRebind(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	for range 3 {
		id := s.Info().LocalID
		c.rebind("127.0.0.1", srv)
		c.sendDatagram("after")
		if got := receive(t, s); got != "after" {
			t.Fatalf("got %q", got)
		}
		// Until the new address is validated, more than three times what came
		// from there still goes to the old one, and is lost with it.
		wantPath(t, srv, s, c, 0)
		talk(t, s, c, "validated")
		if s.Info().LocalID != id {
			t.Error("the id changed, though the client knows of no move")
		}
	}
}

// TestThreatSpoofedPacket has an attacker who knows the session's id, and all that its
// client ever sent, try from his own address: not one byte of the session's
// slots may change, and nothing may come to him.
func TestThreatSpoofedPacket(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	for range 10 {
		talk(t, s, c, "quiet")
	}
	before, moves := slots(srv), s.Info().Moves
	attacker := newSocket(t, "127.0.0.2", srv)
	c.mu.Lock()
	captured := append([][]byte(nil), c.sent...)
	c.mu.Unlock()
	eventually(t, "the client's own packets came before the attacker's", func() bool {
		return s.Info().Received.Packets >= uint64(len(captured))
	})

	// Forged: the sniffed id with a later counter and random bytes.
	_, id, err := wire.ParseData(captured[len(captured)-1])
	if err != nil {
		t.Fatal(err)
	}
	const forged = 200
	for n := range forged {
		pkt := make([]byte, 41+n)
		rand.Read(pkt)
		wire.PutDataHeader(pkt, uint64(1000+n), id)
		attacker.send(pkt)
	}
	count(t, srv, AuthFailed, forged)
	// Replayed: everything that the client sent.
	for _, pkt := range captured {
		attacker.send(pkt)
	}
	count(t, srv, ReplayDuplicate, uint64(len(captured)))
	// One bit changed in each byte of a packet of the client's.
	last := captured[len(captured)-1]
	for i := range last {
		pkt := bytes.Clone(last)
		pkt[i] ^= 1
		attacker.send(pkt)
	}
	attacker.silence("an attacker")
	talk(t, s, c, "still quiet")

	after := slots(srv)
	if len(after) != len(before) {
		t.Errorf("%d slots became %d", len(before), len(after))
	}
	for id, slot := range before {
		if after[id] != slot {
			t.Errorf("slot %+v became %+v", slot, after[id])
		}
	}
	if s.Info().Moves != moves {
		t.Errorf("moves %+v became %+v", moves, s.Info().Moves)
	}
	if st := srv.Stats(); st.RoamsStarted != 0 || st.ForwardingAlarms == 0 {
		t.Errorf("%d roams started, %d forwarding alarms", st.RoamsStarted, st.ForwardingAlarms)
	}
}

// TestRacedPacket has an attacker bring the client's newest packet first, from
// his address: he gets a challenge that he cannot answer, and the session stays.
func TestRacedPacket(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	home := s.RemoteAddr()
	var raced []byte
	c.do(func(now session.Time, out *session.Output) error {
		err := c.state.Send(now, []byte("raced"), out)
		raced, out.Packets = bytes.Clone(out.Packets[0].Data), nil
		return err
	})
	attacker := newSocket(t, "127.0.0.2", srv)
	attacker.send(raced)
	if got := receive(t, s); got != "raced" {
		t.Fatalf("got %q", got)
	}
	answered := 0
	for pkt := attacker.read(patience); pkt != nil; pkt = attacker.read(100 * time.Millisecond) {
		answered += len(pkt)
	}
	if answered == 0 || answered > 3*len(raced) {
		t.Errorf("the candidate got %d bytes for %d", answered, len(raced))
	}
	talk(t, s, c, "after")
	if s.RemoteAddr() != home {
		t.Errorf("the session is at %v", s.RemoteAddr())
	}
	slot, err := srv.table.Get(s.Info().LocalID)
	if err != nil || slot.Addr() != home {
		t.Errorf("slot %+v, %v", slot, err)
	}
	if st := srv.Stats(); st.RoamsStarted != 1 || st.RoamsCommitted != 0 {
		t.Errorf("%d roams started, %d committed", st.RoamsStarted, st.RoamsCommitted)
	}
}

// TestThreatHandshakeElsewhere sends all that an attacker can have of the handshake,
// and resets, from an address of his own: only the newest authentic DATA makes a
// candidate, so no session notices.
func TestThreatHandshakeElsewhere(t *testing.T) {
	srv := listen(t, nil)
	init, cfg := newAttempt(t, srv, nil)
	sock := newSocket(t, "127.0.0.1", srv)
	sock.send(init.Packet())
	resp := sock.read(patience)
	reply, err := init.Finish(resp)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, sock, cfg, reply)
	s := accept(t, srv)
	talk(t, s, c, "before")
	before := slots(srv)
	attacker := newSocket(t, "127.0.0.2", srv)
	attacker.send(resp)
	attacker.send(wire.AppendRetry(nil, init.HandshakeID(), wire.Cookie{1}))
	attacker.send(wire.AppendVersionsPacket(nil, init.HandshakeID(), []uint32{2}))
	count(t, srv, WrongDirection, 3)
	// Resets on the ids that the client sends on, that end with the tokens of both
	// ends' ids.
	tokens := []wire.Token{reply.NewIDs[0].Reset, cfg.NewIDs[0].Reset, cfg.NewIDs[1].Reset}
	for i, token := range tokens {
		pkt := dataOn(wire.ID(reply.NewIDs[0].ID), 48)
		copy(pkt[32:], token[:])
		pkt[7] = byte(200 + i)
		attacker.send(pkt)
	}
	count(t, srv, AuthFailed, uint64(len(tokens)))
	attacker.silence("RESP, RETRY, VERSIONS and resets")
	attacker.send(init.Packet()) // opens a half-open session of its own, and no more
	if attacker.read(patience) == nil {
		t.Error("a replayed INIT from elsewhere is a new handshake, and was not answered")
	}
	for id, slot := range before {
		if after := slots(srv)[id]; after != slot {
			t.Errorf("slot %+v became %+v", slot, after)
		}
	}
	if i := s.Info(); i.Moves.Started != 0 || srv.Stats().RoamsStarted != 0 {
		t.Errorf("moves %+v: something of this made a candidate", i.Moves)
	}
	talk(t, s, c, "after")
}

// TestThreatResetOracle moves often: ids that are no longer used leave the table, and
// what the server answers to them ends no session.
func TestThreatResetOracle(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the seconds after which an id is retired")
	}
	t.Parallel()
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	first := s.Info().LocalID
	for range 2 {
		i := c.addSocket("127.0.0.1", srv)
		c.move(i)
		talk(t, s, c, "moved")
		wantPath(t, srv, s, c, i)
	}
	eventually(t, "the first id is retired", func() bool {
		_, tag := srv.table.Find(first)
		return tag == maps.TagOurs
	})
	count(t, srv, ResetSent, 0)
	// Whoever saw the retired id gets the reset for it, as from an oracle; it ends
	// nothing, though it comes from the server's address.
	attacker := newSocket(t, "127.0.0.1", srv)
	attacker.send(dataOn(first, 60))
	reset := attacker.read(patience)
	if reset == nil {
		t.Fatal("a retired id is not answered by a reset")
	}
	count(t, srv, ResetSent, 1)
	c.do(func(now session.Time, out *session.Output) error {
		if r := c.state.Receive(now, c.state.Path(), reset, out); r != session.UnknownID {
			t.Errorf("the reset of a retired id: %v", r)
		}
		return nil
	})
	talk(t, s, c, "after")
	if n := srv.table.Len(); n > 8 {
		t.Errorf("one session holds %d slots", n)
	}
}

// feed hands packets to a reader as if its socket had read them in one batch.
type feed struct {
	r    *reader
	from netip.AddrPort
}

func (f *feed) batch(now session.Time, packets [][]byte) {
	for i, pkt := range packets {
		m := &f.r.in[i]
		m.N = copy(m.Buf, pkt)
		m.Remote, m.Local = f.from, f.r.srv.workers[0].conn.LocalAddr()
	}
	f.r.batch(now, f.r.in[:len(packets)])
}

// newFeed opens a session whose client does nothing by itself any more, and
// returns it with n packets that the client has sealed: datagrams of the size.
func newFeed(t testing.TB, size, n int) (*feed, *Session, [][]byte) {
	return newFeedOf(t, 1, size, n)
}

func newFeedOf(t testing.TB, workers, size, n int) (*feed, *Session, [][]byte) {
	t.Helper()
	srv := listen(t, func(c *Config) { c.Workers = workers })
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	c.sendDatagram("settle")
	receive(t, s)
	eventually(t, "both have acknowledged the other's ids", func() bool {
		c.mu.Lock()
		s.mu.Lock()
		defer c.mu.Unlock()
		defer s.mu.Unlock()
		return c.state.Info().SRTT > 0 && s.state.Info().SRTT > 0
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.deaf = true, 1<<30 // nothing comes of it any more, nor does it allocate
	packets := make([][]byte, n)
	var out session.Output
	for i := range packets {
		if err := c.state.Send(c.now(), make([]byte, size), &out); err != nil {
			t.Fatal(err)
		}
		if len(out.Packets) != 1 {
			t.Fatalf("a datagram of %d bytes became %d packets", size, len(out.Packets))
		}
		packets[i] = bytes.Clone(out.Packets[0].Data)
		out.Reset()
	}
	r := newReader(srv.workers[0], maps.LaneMain, srv.workers[0].conn, srv.counts[0])
	return &feed{r, c.sockets[0].conn.LocalAddr()}, s, packets
}

func TestAllocations(t *testing.T) {
	if testutil.Race {
		t.Skip("sync.Pool allocates at random under the race detector")
	}
	const runs, batch = 100, 16
	f, s, packets := newFeed(t, 1000, (runs+10)*batch)
	noWait, cancel := context.WithCancel(t.Context())
	cancel()
	p := make([]byte, 2000)
	drain := func() {
		for range batch {
			if n, err := s.ReceiveDatagram(noWait, p); n != 1000 || err != nil {
				t.Fatalf("receive: %d, %v", n, err)
			}
		}
	}
	one := func() {
		f.batch(f.r.srv.clock.now(), packets[:batch])
		packets = packets[batch:]
		drain()
	}
	for range 5 {
		one() // builds the AEAD and the pools
	}
	if n := testing.AllocsPerRun(runs, one); n > 0 {
		t.Errorf("receiving %d datagrams: %v allocations", batch, n)
	}
	if n := testing.AllocsPerRun(runs, func() {
		if err := s.SendDatagram(p[:1000]); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("sending a datagram: %v allocations", n)
	}
}
