// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// fakeConn is a session made of channels.
type fakeConn struct {
	in, out chan string
	done    chan struct{}
	once    sync.Once
	code    wire.CloseCode
	reason  string
	most    atomic.Int32 // the largest datagram that the client takes; 0: 1000
	lost    atomic.Int32 // datagrams larger than that
}

func newFakeConn() *fakeConn {
	return &fakeConn{in: make(chan string, 8), out: make(chan string, 8), done: make(chan struct{})}
}

func (c *fakeConn) ReceiveDatagram(ctx context.Context, p []byte) (int, error) {
	select {
	case s := <-c.in:
		return copy(p, s), nil
	case <-c.done:
		return 0, net.ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (c *fakeConn) SendDatagram(p []byte) error {
	if len(p) > c.MaxDatagram() {
		c.lost.Add(1)
		return errors.New("too large")
	}
	select {
	case <-c.done:
		return net.ErrClosed
	case c.out <- string(p):
		return nil
	}
}

func (c *fakeConn) Close(code wire.CloseCode, reason string) error {
	c.once.Do(func() {
		c.code, c.reason = code, reason
		close(c.done)
	})
	return nil
}

func (c *fakeConn) MaxReceive() int  { return 1000 }
func (c *fakeConn) MaxDatagram() int { return cmp.Or(int(c.most.Load()), 1000) }

func (c *fakeConn) next(t *testing.T) string {
	t.Helper()
	select {
	case s := <-c.out:
		return s
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came")
		return ""
	}
}

// serve runs a backend and returns what Serve returned.
func serve(ctx context.Context, t *testing.T, spec string, c Conn) <-chan error {
	t.Helper()
	b, err := Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != spec {
		t.Errorf("%q became %q", spec, b)
	}
	errs := make(chan error, 1)
	go func() { errs <- b.Serve(ctx, c) }()
	return errs
}

func wait(t *testing.T, errs <-chan error) error {
	t.Helper()
	select {
	case err := <-errs:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("Serve does not return")
		return nil
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
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	c := newFakeConn()
	errs := serve(t.Context(), t, "udp://"+p.LocalAddr().String(), c)
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

func TestParseErrors(t *testing.T) {
	for spec, want := range map[string]string{
		"":                      "no scheme",
		"echo":                  "no scheme",
		"echo:7":                "nothing may follow",
		"tcp://localhost:1":     "unknown",
		"udp:localhost:53":      "udp://host:port",
		"udp://localhost":       "udp://host:port",
		"udp://localhost:":      "1 to 65535",
		"udp://localhost:0":     "1 to 65535",
		"udp://localhost:http":  "1 to 65535",
		"udp://localhost:70000": "1 to 65535",
		"udp://:53":             "host is missing",
	} {
		b, err := Parse(spec)
		if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want an error with %q", spec, b, err, want)
		}
	}
}
