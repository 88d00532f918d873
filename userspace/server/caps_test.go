// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// counted returns how many keys and networks the caps count anything of.
func counted(c *caps) (keys, prefixes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.keys), len(c.prefixes)
}

// A closed session counts until its slots are free: who opens and closes all the
// time holds no more slots than who keeps what they have.
func TestClosedSessionCounts(t *testing.T) {
	t.Parallel()
	key := handshake.NewPrivateKey()
	srv := listen(t, func(c *Config) { c.Limits.KeySessions = 1 })
	identify := func(c *handshake.ClientConfig) { c.Static = key }
	c := dial(t, srv, "127.0.0.1", identify)
	s := accept(t, srv)
	c.do(func(now session.Time, out *session.Output) error {
		c.state.Close(now, wire.CloseDone, "", out)
		return nil
	})
	<-s.Done()
	if srv.table.Len() == 0 {
		t.Fatal("the closed session's slots are free already: this test proves nothing")
	}
	init, _ := newAttempt(t, srv, identify)
	if reply, _ := exchange(t, newSocket(t, "127.0.0.1", srv), init); reply.Status != wire.StatusBusy {
		t.Errorf("a second session while the first one holds slots: %v", reply.Status)
	}
	eventually(t, "the slots are free", func() bool { return srv.directory.len() == 0 })
	dial(t, srv, "127.0.0.1", identify)
	accept(t, srv)
}

// Who is turned away since nobody accepts sessions counts as long, and no longer.
func TestAcceptQueueCounts(t *testing.T) {
	t.Parallel()
	srv := listen(t, func(c *Config) { c.Limits.AcceptQueue = 1 })
	dial(t, srv, "127.0.0.1", nil)
	eventually(t, "the first waits", func() bool { return srv.Stats().Opened == 1 })
	dial(t, srv, "::1", nil).closedWith()
	if keys, prefixes := counted(srv.caps); keys != 2 || prefixes != 2 {
		t.Errorf("with its slots taken: %d keys, %d networks", keys, prefixes)
	}
	eventually(t, "the second is forgotten", func() bool { return srv.directory.len() == 1 })
	if keys, prefixes := counted(srv.caps); keys != 1 || prefixes != 1 {
		t.Errorf("after it: %d keys, %d networks", keys, prefixes)
	}
}

// A session counts in the network that it is in: after a move, and after one that
// its owner took back.
func TestMovedSessionCounts(t *testing.T) {
	srv := listen(t, nil)
	dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	home, away := s.path(), session.Path{Remote: netip.MustParseAddrPort("[2001:db8::1]:1")}
	step := func(e session.Event, at session.Path) {
		t.Helper()
		var out session.Output
		s.mu.Lock()
		s.event(srv.clock.now(), &e, &out)
		s.mu.Unlock()
		srv.caps.mu.Lock()
		defer srv.caps.mu.Unlock()
		p := makePrefix(at.Remote.Addr(), sessionPrefixBits)
		if len(srv.caps.prefixes) != 1 || srv.caps.prefixes[hash(srv.caps, p)] != 1 {
			t.Errorf("%v: %v, want one in %v", e.Kind, srv.caps.prefixes, p)
		}
	}
	step(session.Event{Kind: session.EventMoveCommitted, Path: away, From: home}, away)
	step(session.Event{Kind: session.EventMoveReverted, Path: home, From: away}, home)
}
