// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestUDP(t *testing.T) {
	backend, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	go func() {
		p := make([]byte, 2000)
		for {
			n, from, err := backend.ReadFrom(p)
			if err != nil {
				return
			}
			if string(p[:n]) == "long" {
				backend.WriteTo(make([]byte, 1500), from) // more than the client takes: lost
			}
			backend.WriteTo([]byte(from.String()+" "+strings.ToUpper(string(p[:n]))), from)
		}
	}()
	// Two sessions: each has its own source port, and gets its own answers.
	a, b := newFakeConn(), newFakeConn()
	spec := "udp://" + backend.LocalAddr().String()
	errA, errB := serve(t.Context(), t, spec, a), serve(t.Context(), t, spec, b)
	a.in <- "from a"
	b.in <- "long"
	portA, textA, _ := strings.Cut(a.next(t), " ")
	portB, textB, _ := strings.Cut(b.next(t), " ")
	if textA != "FROM A" || textB != "LONG" || portA == portB {
		t.Errorf("a got %q from %s, b got %q from %s", textA, portA, textB, portB)
	}
	if n := b.lost.Load(); n != 1 {
		t.Errorf("%d of b's datagrams were too large, want 1: the session counts them", n)
	}
	// The client takes longer ones by now.
	b.most.Store(2000)
	b.in <- "long"
	if got := b.next(t); len(got) != 1500 {
		t.Errorf("the long one is %d bytes", len(got))
	}
	b.next(t)
	for _, c := range []*fakeConn{a, b} {
		c.Close(wire.CloseDone, "")
	}
	if err := errors.Join(wait(t, errA), wait(t, errB)); err != nil {
		t.Error(err)
	}
}

func TestUDPRefused(t *testing.T) {
	address, _ := testutil.Unserved(t, "udp")
	c := newFakeConn()
	errs := serve(t.Context(), t, "udp://"+address, c)
	c.in <- "anyone?"
	if err := wait(t, errs); err == nil || !strings.Contains(err.Error(), "nothing listens") {
		t.Errorf("error: %v", err)
	}
	if c.code != wire.CloseServiceGone || !strings.Contains(c.reason, "nothing listens") {
		t.Errorf("the client was told %v %q", c.code, c.reason)
	}
}

func TestUDPCancelled(t *testing.T) {
	backend, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	c := newFakeConn()
	ctx, cancel := context.WithCancel(t.Context())
	errs := serve(ctx, t, "udp://"+backend.LocalAddr().String(), c)
	cancel()
	if err := wait(t, errs); err != nil || c.code != wire.CloseShuttingDown {
		t.Errorf("cancelled: %v, closed with %v", err, c.code)
	}
}

// Where localhost is said, a service on either loopback is found.
func TestUDPLocalhost(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1:0", "[::1]:0"} {
		backend, err := net.ListenPacket("udp", loopback)
		if err != nil {
			t.Fatal(err)
		}
		defer backend.Close()
		go func() {
			p := make([]byte, 2000)
			for {
				n, from, err := backend.ReadFrom(p)
				if err != nil {
					return
				}
				backend.WriteTo(p[:n], from)
			}
		}()
		c := newFakeConn()
		_, port, _ := net.SplitHostPort(backend.LocalAddr().String())
		errs := serve(t.Context(), t, "udp://localhost:"+port, c)
		for _, text := range []string{"one", "two"} {
			c.in <- text
			if got := c.next(t); got != text {
				t.Errorf("%s: %q", loopback, got)
			}
		}
		c.Close(wire.CloseDone, "")
		if err := wait(t, errs); err != nil {
			t.Error(err)
		}
	}
}
