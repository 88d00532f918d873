// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// inits hands a server INITs from sources of their own, as their forger would:
// whoever lives there hears nothing.
type inits struct {
	srv  *Server
	r    *reader
	n    uint32
	real wire.Init // of which junk is made
}

func newInits(srv *Server) *inits {
	w := srv.workers[0]
	return &inits{srv: srv, r: newReader(w, maps.LaneHandshake, silent{w.conn}, srv.newCounters())}
}

func (f *inits) send(pkt []byte) {
	f.n++
	m := &f.r.in[0]
	m.N, m.Local = copy(m.Buf, pkt), netip.MustParseAddrPort("[2001:db8::1]:7626")
	m.Remote = netip.AddrPortFrom(network6(f.n), 1000)
	f.r.batch(f.srv.clock.now(), f.r.in[:1])
}

// junk is an INIT that costs a handshake worker as much as any, and then does not
// open: a real one under another handshake id.
func (f *inits) junk(t testing.TB) wire.Init {
	if f.real == nil {
		init, _ := newAttempt(t, f.srv, nil)
		f.real = init.Packet()
	}
	pkt := wire.Init(bytes.Clone(f.real))
	binary.BigEndian.PutUint64(pkt[8:], uint64(f.n))
	pkt.SetMAC1(f.srv.identities[0].mac1.Sum(pkt))
	return pkt
}

// Forged INITs that nobody answers for take neither the half-open sessions nor the
// table from clients that prove their address.
func TestForgedInitsLeaveRoom(t *testing.T) {
	srv := listen(t, func(c *Config) { c.TableSlots, c.Workers = maps.MinSlots, 1 })
	forged := newInits(srv)
	for range srv.table.Limit() {
		init, _ := newAttempt(t, srv, nil)
		forged.send(init.Packet())
	}
	eventually(t, "all handshakes are done", func() bool { return len(srv.jobs) == 0 })
	if n, most := srv.table.Len(), srv.table.Limit()/8; n > most {
		t.Errorf("forged INITs hold %d slots; an eighth of the table is %d", n, most)
	}
	init, cfg := newAttempt(t, srv, nil)
	s := newSocket(t, "127.0.0.1", srv)
	reply, retries := exchange(t, s, init)
	if retries != 1 || reply.Status != wire.StatusAccepted {
		t.Fatalf("an honest client: %d RETRYs, %v", retries, reply.Status)
	}
	c := newClient(t, s, cfg, reply)
	talk(t, accept(t, srv), c, "through")
}

// busy is a server whose only handshake worker is held up, in Authorize, with the
// first INIT of a socket. release lets it go on.
func busy(t *testing.T) (srv *Server, first *socket, release func()) {
	t.Helper()
	held, gate := make(chan struct{}, maxJobs), make(chan struct{})
	srv = listen(t, func(c *Config) {
		c.Workers, c.Cookie = 1, CookieNever
		c.Authorize = func(handshake.PublicKey, uint16) Access {
			held <- struct{}{}
			<-gate
			return Access{Allowed: true}
		}
	})
	released := false
	release = func() {
		if !released {
			released = true
			close(gate)
		}
	}
	t.Cleanup(release) // before the server's Close, which waits for it
	init, _ := newAttempt(t, srv, nil)
	first = newSocket(t, "127.0.0.1", srv)
	first.send(init.Packet())
	<-held
	return srv, first, release
}

// What the handshake workers do not keep up with is dropped and forgotten.
func TestHandshakeQueueFull(t *testing.T) {
	srv, _, _ := busy(t)
	forged := newInits(srv)
	for range maxJobs + 10 {
		forged.send(forged.junk(t))
	}
	count(t, srv, HandshakeBusy, 10)
	if n := srv.Stats().HalfOpen; n != maxJobs+1 {
		t.Errorf("%d half-open; %d wait and one is being worked on", n, maxJobs)
	}
}

// An INIT that waits for longer than its client does is not answered, and its
// session ends at once.
func TestHandshakeTooLate(t *testing.T) {
	srv, client, release := busy(t)
	srv.attempts.expire(srv.clock.now() + attemptLife)
	release()
	count(t, srv, HandshakeBusy, 1)
	client.silence("an INIT of long ago")
	srv.directory.each(func(s *Session) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.state.State() <= session.StateOpen {
			t.Errorf("its session is %v", s.state.State())
		}
		return true
	})
}

// Every INIT is counted, even those that wait when the server ends.
func TestInitsCountedAtClose(t *testing.T) {
	const waiting = 100
	srv, _, release := busy(t)
	forged := newInits(srv)
	for range waiting {
		forged.send(forged.junk(t))
	}
	closed := make(chan error)
	go func() { closed <- srv.Close() }()
	<-srv.ctx.Done()
	time.Sleep(10 * time.Millisecond) // it waits for the handshake worker
	release()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	var counted uint64
	for _, n := range srv.Stats().Packets {
		counted += n
	}
	if counted != waiting+1 {
		t.Errorf("%d of %d INITs were counted", counted, waiting+1)
	}
}

// A confirmed session does not keep its handshake.
func TestAttemptIsForgotten(t *testing.T) {
	srv := listen(t, nil)
	dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	attempt := func() *attempt {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.attempt
	}
	if attempt() == nil {
		t.Fatal("the attempt is gone already: its RESP cannot be repeated")
	}
	srv.forgetAttempts(srv.clock.now() + attemptLife)
	if attempt() != nil {
		t.Error("the attempt outlives its time")
	}
}
