// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// The CLOSE of a server that ends is sent again until the client has it.
func TestCloseIsRepeated(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	c.mu.Lock()
	c.deaf = 2
	c.mu.Unlock()
	// As Close does, which would not wait for a client as slow as a busy machine's.
	told := srv.closeSessions(wire.CloseShuttingDown, func(*Session) (string, bool) { return "test", true })
	if len(told) != 1 {
		t.Fatalf("%d clients were told", len(told))
	}
	eventually(t, "the client has acknowledged", func() bool {
		ok, _ := told[0].state(srv.clock.now())
		return ok
	})
	if e := c.closedWith(); e.Code != wire.CloseShuttingDown {
		t.Errorf("the client learned %+v", e)
	}
}

// Close knows which clients have acknowledged, and does not wait for ever for
// those that cannot.
func TestGoodbyes(t *testing.T) {
	srv := listen(t, nil)
	heard := dial(t, srv, "127.0.0.1", nil)
	talk(t, accept(t, srv), heard, "before")
	gone := dial(t, srv, "127.0.0.1", nil)
	talk(t, accept(t, srv), gone, "before")
	gone.mu.Lock()
	gone.deaf = 1 << 30
	gone.mu.Unlock()
	told := srv.closeSessions(wire.CloseShuttingDown, func(*Session) (string, bool) { return "test", true })
	if len(told) != 2 {
		t.Fatalf("%d clients were told", len(told))
	}
	heard.closedWith()
	eventually(t, "the one that hears has acknowledged", func() bool {
		ok, _ := told[0].state(srv.clock.now())
		return ok
	})
	if ok, _ := told[1].state(srv.clock.now()); ok {
		t.Error("the deaf one has acknowledged")
	}
	start := time.Now()
	if untold := srv.awaitGoodbyes(told); untold != 1 {
		t.Errorf("%d clients were not reached", untold)
	}
	if took := time.Since(start); took > goodbyeWait+10*time.Second {
		t.Errorf("that took %v", took)
	}
}

func TestDrain(t *testing.T) {
	srv := listen(t, func(c *Config) {
		c.Authorize = func(_ handshake.PublicKey, service uint16) Access { return Access{Allowed: service != 9} }
	})
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := srv.Drain(short); !errors.Is(err, context.DeadlineExceeded) || !srv.Draining() {
		t.Fatalf("with a live session: %v", err)
	}
	init, _ := newAttempt(t, srv, nil)
	reply, _ := exchange(t, newSocket(t, "127.0.0.1", srv), init)
	if reply.Status != wire.StatusBusy || reply.Code != wire.CloseShuttingDown || reply.Reason != drainReason {
		t.Errorf("a new client learned %+v", reply)
	}
	init, _ = newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Service = 9 })
	if reply, _ := exchange(t, newSocket(t, "127.0.0.1", srv), init); reply.Status != wire.StatusNotAuthorised {
		t.Errorf("one without a right to the service learned %v", reply.Status)
	}
	talk(t, s, c, "still")

	drained := make(chan error, 1)
	go func() { drained <- srv.Drain(context.Background()) }()
	select {
	case err := <-drained:
		t.Fatalf("Drain returned %v with a session left", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.Close(wire.CloseDone, "")
	select {
	case err := <-drained:
		if err != nil || srv.table.Len() != 0 {
			t.Errorf("drained: %v, %d slots left", err, srv.table.Len())
		}
	case <-time.After(patience):
		t.Fatal("Drain does not notice that the last session is gone")
	}
	if st := srv.Stats(); st.Refused[wire.StatusBusy] != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestDrainEndsWithTheServer(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	talk(t, accept(t, srv), c, "before")
	drained := make(chan error, 1)
	go func() { drained <- srv.Drain(context.Background()) }()
	eventually(t, "it drains", srv.Draining)
	srv.Close()
	if err := <-drained; err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("Drain returned %v", err)
	}
}
