// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// TestEchoBatch has many datagrams wait at once, one of them too large to go back.
func TestEchoBatch(t *testing.T) {
	c := newFakeConn()
	c.in, c.out = make(chan string, 100), make(chan string, 100)
	for i := range 100 {
		size := 1 + i
		if i == 50 {
			size = 1000
			c.most.Store(999)
		}
		c.in <- strings.Repeat("x", size)
	}
	errs := serve(t.Context(), t, "echo:", c)
	for i := range 100 {
		if i == 50 {
			continue
		}
		if got := c.next(t); len(got) != 1+i {
			t.Fatalf("datagram %d came back with %d bytes", i, len(got))
		}
	}
	if n := c.lost.Load(); n != 1 {
		t.Errorf("%d were too large, want 1", n)
	}
	c.Close(wire.CloseDone, "")
	if err := wait(t, errs); err != nil {
		t.Errorf("a session that ended is an error: %v", err)
	}
}

func TestEcho(t *testing.T) {
	c := newFakeConn()
	errs := serve(t.Context(), t, "echo:", c)
	for _, s := range []string{"one", "", "two"} {
		c.in <- s
		if got := c.next(t); got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	}
	c.Close(wire.CloseDone, "")
	if err := wait(t, errs); err != nil {
		t.Errorf("a session that ended is an error: %v", err)
	}
}

func TestDiscard(t *testing.T) {
	c := newFakeConn()
	ctx, cancel := context.WithCancel(t.Context())
	errs := serve(ctx, t, "discard:", c)
	c.in <- "gone"
	for len(c.in) > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := wait(t, errs); err != nil || c.code != wire.CloseShuttingDown {
		t.Errorf("cancelled: %v, closed with %v", err, c.code)
	}
	if len(c.out) != 0 {
		t.Errorf("discard answered %q", <-c.out)
	}
}
