// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// roaming opens a session, in a bubble, whose routes the test changes.
func roaming(t *testing.T) (*rig, *Session, *testNetwork, *events) {
	t.Helper()
	r, network := newSimRig(t)
	ev := new(events)
	s := r.dial(t, func(c *Config) { c.OnEvent = ev.add })
	echo(t, s, "before")
	return r, s, network, ev
}

func (r *rig) path() (p session.Path) {
	r.with(func() { p = r.sessions[0].Path() })
	return p
}

func TestMoveFollowsTheRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, network, ev := roaming(t)
		first, ids := s.LocalAddr(), s.Info()
		if first.Addr() != netip.MustParseAddr("127.0.0.2") {
			t.Fatalf("the session is at %v", first)
		}
		network.set("127.0.0.3", "")
		eventually(t, "the server has it there", func() bool { return r.path().Remote.Addr() == netip.MustParseAddr("127.0.0.3") })
		eventually(t, "EventMoved", func() bool { return len(ev.find(EventMoved)) == 1 })
		echo(t, s, "after")

		second, after := s.LocalAddr(), s.Info()
		if r.path().Remote != second || s.ObservedAddr() != second {
			t.Errorf("we are at %v, the server sends to %v and told %v", second, r.path().Remote, s.ObservedAddr())
		}
		if after.RemoteID == ids.RemoteID || after.LocalID == ids.LocalID {
			t.Error("an id was kept over the move: whoever sees both networks can link them")
		}
		if got := ev.kinds(); !slices.Equal(got, []EventKind{EventMoving, EventMoved}) {
			t.Errorf("told %v", got)
		}
		e := ev.find(EventMoving)[0]
		if e.From.Local != first || e.To.Local != second || e.To.Remote != r.addr() || e.At.IsZero() {
			t.Errorf("told %+v", e)
		}
		r.with(func() {
			if len(r.sessions) != 1 || r.inits != 1 {
				t.Errorf("%d sessions, %d INITs: a move is no new session", len(r.sessions), r.inits)
			}
			// NOT_PREFERRED from the socket that we left, so no alarm and no return.
			if i := r.sessions[0].Info(); i.Moves.Committed != 1 || i.Moves.Reverted != 0 || i.Moves.Refused != 0 {
				t.Errorf("the server's moves: %+v", i.Moves)
			}
		})
		eventually(t, "the old socket is closed", func() bool { return s.Info().Sockets == 1 })
	})
}

// The old socket answers challenges until its time is over: packets that the
// server sent to it before it knew still arrive.
func TestOldSocketStillReceives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, network, _ := roaming(t)
		old := r.path()
		// The server hears nothing of the move.
		r.with(func() { r.loss = func(toServer bool, _ []byte) bool { return toServer } })
		network.set("127.0.0.3", "")
		eventually(t, "two sockets", func() bool { return s.Info().Sockets == 2 })
		var out session.Output
		r.with(func() {
			if err := r.sessions[0].Send(time.Since(r.start), []byte("to the old address"), &out); err != nil {
				t.Error(err)
			}
			if out.Packets[0].Path.Remote != old.Remote {
				t.Errorf("the server sends to %v", out.Packets[0].Path.Remote)
			}
			r.flush(r.sessions[0], &out)
		})
		p := make([]byte, 100)
		for {
			n, err := s.ReceiveDatagram(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if string(p[:n]) == "to the old address" {
				break
			}
		}
		r.with(func() { r.loss = nil })
		echo(t, s, "and on")
	})
}

func TestMoveToAnotherFamilyAndBack(t *testing.T) {
	needsLoopbackNet(t)
	r := newRig(t, "[::]:0")
	port := r.addr().Port()
	four := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	six := netip.AddrPortFrom(netip.IPv6Loopback(), port)
	network := newNetwork("127.0.0.2", "::1")
	s := r.dial(t, func(c *Config) {
		c.Servers, c.Network = []netip.AddrPort{four, six}, network
	})
	echo(t, s, "over IPv4")
	if s.RemoteAddr() != four {
		t.Fatalf("the first server was not tried first: %v", s.RemoteAddr())
	}
	network.set("", "::1")
	eventually(t, "IPv6", func() bool { return s.RemoteAddr() == six })
	echo(t, s, "over IPv6")
	// A route of the other family is no reason to leave one that works.
	network.set("127.0.0.3", "::1")
	time.Sleep(5 * settleTime)
	if s.RemoteAddr() != six {
		t.Error("the session left a route that works")
	}
	network.set("127.0.0.3", "")
	eventually(t, "IPv4", func() bool { return s.RemoteAddr() == four })
	echo(t, s, "over IPv4 again")
	r.with(func() {
		if len(r.sessions) != 1 {
			t.Errorf("%d sessions", len(r.sessions))
		}
	})
}

func TestNoRouteWaitsForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, network, ev := roaming(t)
		at := s.LocalAddr()
		network.set("", "")
		eventually(t, "EventNoRoute", func() bool { return len(ev.find(EventNoRoute)) == 1 })
		if e := ev.find(EventNoRoute)[0]; !errors.Is(e.Err, ErrNoRoute) || !errors.Is(e.Err, errNoRoute) || e.From.Local != at {
			t.Errorf("told %+v", e)
		}
		network.set("", "") // told again by the system, not again by us
		time.Sleep(3 * settleTime)
		network.set("127.0.0.2", "")
		eventually(t, "EventRouteBack", func() bool { return len(ev.find(EventRouteBack)) == 1 })
		echo(t, s, "the same address")
		network.set("", "")
		eventually(t, "EventNoRoute again", func() bool { return len(ev.find(EventNoRoute)) == 2 })
		network.set("127.0.0.3", "")
		eventually(t, "EventMoved", func() bool { return len(ev.find(EventMoved)) == 1 })
		echo(t, s, "another address")
		want := []EventKind{EventNoRoute, EventRouteBack, EventNoRoute, EventMoving, EventMoved}
		if got := ev.kinds(); !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
	})
}

// An address that cannot be bound yet is tried again though the system tells
// nothing more, and told of once.
func TestMoveIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, network, ev := roaming(t)
		network.setListen(syscall.EADDRNOTAVAIL)
		network.set("127.0.0.3", "")
		eventually(t, "EventMoveFailed", func() bool { return len(ev.find(EventMoveFailed)) == 1 })
		time.Sleep(3 * retryTime / 2)
		network.setListen(nil)
		eventually(t, "EventMoved", func() bool { return len(ev.find(EventMoved)) == 1 })
		echo(t, s, "moved")
		if e := ev.find(EventMoveFailed); len(e) != 1 || !errors.Is(e[0].Err, syscall.EADDRNOTAVAIL) || e[0].To.Local.Addr().String() != "127.0.0.3" {
			t.Errorf("told %+v", e)
		}
	})
}

// The address changes between RESP and the first PONG: the move waits until the
// server has the session.
func TestMoveBeforeConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lossy := true
		r, network := newSimRig(t, func(r *rig) {
			r.loss = func(toServer bool, pkt []byte) bool { return lossy && !toServer && pkt[0] == wire.TypeData }
		})
		ev := new(events)
		s := r.dial(t, func(c *Config) { c.OnEvent = ev.add })
		network.set("127.0.0.3", "")
		time.Sleep(5 * settleTime)
		if got := s.LocalAddr().Addr().String(); got != "127.0.0.2" {
			t.Errorf("moved to %s before it was confirmed", got)
		}
		r.with(func() { lossy = false })
		eventually(t, "EventMoved", func() bool { return len(ev.find(EventMoved)) == 1 })
		echo(t, s, "moved")
	})
}

func TestMoveByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _, ev := roaming(t)
		before := s.LocalAddr()
		if err := s.Move(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := s.LocalAddr(); after.Addr() != before.Addr() || after.Port() == before.Port() {
			t.Errorf("moved from %v to %v", before, after)
		}
		eventually(t, "EventMoved", func() bool { return len(ev.find(EventMoved)) == 1 })
		echo(t, s, "after")
		if r.path().Remote != s.LocalAddr() {
			t.Errorf("the server has it at %v", r.path().Remote)
		}

		r.with(func() { r.mute = true })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := s.Move(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a mute server: %v", err)
		}
		r.with(func() { r.mute = false })
		if err := s.Move(t.Context()); err != nil {
			t.Errorf("after it: %v", err)
		}
		s.Close(wire.CloseDone, "")
		var closed *ClosedError
		if err := s.Move(t.Context()); !errors.As(err, &closed) {
			t.Errorf("of a closed session: %v", err)
		}
	})
}

// Back and forth many times: sockets and ids stay bounded, the session lives.
func TestManyMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, network, ev := roaming(t)
		const moves = 30
		for i := range moves {
			network.set([]string{"127.0.0.3", "127.0.0.2"}[i%2], "")
			eventually(t, "the next move", func() bool { return len(ev.find(EventMoving)) > i })
			if i%3 == 0 {
				echo(t, s, "x")
			}
			if n := s.Info().Sockets; n > 6 {
				t.Fatalf("%d sockets are open", n)
			}
		}
		echo(t, s, "last")
		eventually(t, "the server is here", func() bool { return r.path().Remote == s.LocalAddr() })
		eventually(t, "one socket", func() bool { return s.Info().Sockets == 1 })
	})
}

// The socket is taken away by the system: the session opens another.
func TestLostSocketIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, _, ev := roaming(t)
		s.mu.Lock()
		conn := s.sockets[s.machine.Path().Socket].conn
		s.mu.Unlock()
		conn.Close()
		eventually(t, "EventMoved", func() bool { return len(ev.find(EventMoved)) == 1 })
		echo(t, s, "after")
	})
}

// unwatched is a network of a system that tells nothing.
type unwatched struct{ *testNetwork }

func (unwatched) Watch(context.Context, func()) error { return errors.New("no word of changes here") }

func TestWithoutWordOfTheSystemItLooksByItself(t *testing.T) {
	t.Parallel()
	needsLoopbackNet(t)
	r := newRig(t, "127.0.0.1:0")
	network, ev := newNetwork("127.0.0.2", ""), new(events)
	s := r.dial(t, func(c *Config) { c.Network, c.OnEvent = unwatched{network}, ev.add })
	echo(t, s, "before")
	network.set("127.0.0.3", "")
	eventually(t, "EventMoved", func() bool { return len(ev.find(EventMoved)) == 1 })
	echo(t, s, "after")
}

func TestEventsAreLogged(t *testing.T) {
	needsLoopbackNet(t)
	var buf syncBuffer
	r := newRig(t, "127.0.0.1:0")
	network := newNetwork("127.0.0.2", "")
	s := r.dial(t, func(c *Config) { c.Network, c.Log = network, slog.New(slog.NewTextHandler(&buf, nil)) })
	echo(t, s, "x")
	network.set("127.0.0.3", "")
	eventually(t, "moved is logged", func() bool { return strings.Contains(buf.String(), "msg=moved") })
	s.Close(wire.CloseDone, "bye")
	log := buf.String()
	for _, want := range []string{"msg=moving", "from=127.0.0.2:", "to=127.0.0.3:", "server=" + r.addr().String(), "msg=closed", "bye", "session="} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if strings.Index(log, "msg=moving") > strings.Index(log, "msg=moved") {
		t.Errorf("out of order:\n%s", log)
	}
}

type syncBuffer struct {
	events // for its lock
	b      bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
