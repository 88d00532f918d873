// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
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
	key     handshake.PublicKey
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

func (c *fakeConn) ReceiveDatagrams(ctx context.Context, buffers [][]byte, sizes []int) (n int, err error) {
	for n < len(buffers) {
		select {
		case s := <-c.in:
			sizes[n] = len(s)
			copy(buffers[n], s)
			n++
			continue
		default:
		}
		if n > 0 {
			return n, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		sizes[0], err = c.ReceiveDatagram(ctx, buffers[0])
		if err != nil {
			return 0, err
		}
		n = 1
	}
	return n, nil
}

func (c *fakeConn) SendDatagrams(ds [][]byte) (int, error) {
	for i, d := range ds {
		if err := c.SendDatagram(d); err != nil {
			return i, err
		}
	}
	return len(ds), nil
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

func (c *fakeConn) Err() error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
		return nil
	}
}

func (c *fakeConn) ID() wire.ID                  { return wire.ID{1} }
func (c *fakeConn) PeerKey() handshake.PublicKey { return c.key }
func (c *fakeConn) RemoteAddr() netip.AddrPort   { return netip.MustParseAddrPort("192.0.2.7:700") }
func (c *fakeConn) LocalAddr() netip.AddrPort    { return netip.MustParseAddrPort("192.0.2.1:7626") }

// serve runs a service and returns what Serve returned.
func serve(ctx context.Context, t *testing.T, spec string, c Conn) <-chan error {
	t.Helper()
	return serveLimited(ctx, newService(t, spec, Limits{}), c)
}

func serveLimited(ctx context.Context, s *Service, c Conn) <-chan error {
	errs := make(chan error, 1)
	go func() { errs <- s.Serve(ctx, c) }()
	return errs
}

func newService(t *testing.T, spec string, limits Limits) *Service {
	t.Helper()
	s, err := New(spec, limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != spec {
		t.Errorf("%q became %q", spec, s)
	}
	return s
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
		"":                         "no scheme",
		"echo":                     "no scheme",
		"echo:7":                   "nothing may follow",
		"gopher://localhost:1":     "unknown",
		"udp:localhost:53":         "udp://host:port",
		"udp://localhost":          "udp://host:port",
		"udp://localhost:":         "1 to 65535",
		"udp://localhost:0":        "1 to 65535",
		"udp://localhost:http":     "1 to 65535",
		"udp://localhost:70000":    "1 to 65535",
		"udp://:53":                "host is missing",
		"udp://h:53?proxy=v2":      "1 to 65535",
		"tcp://:22":                "write tcp://localhost:22",
		"tcp:localhost:22":         "tcp://host:port",
		"tcp://h:22?proxy=v1":      "write proxy=v2",
		"tcp://h:22?proxy":         "write proxy=v2",
		"tcp://h:22?x=y":           "proxy=v2 alone",
		"tcp://h:22?proxy=v2&x=1":  "proxy=v2 alone",
		"tcp://h:22?proxy=v2;x":    "proxy=v2 alone",
		"unix:/run/x":              "unix:///run/app.sock",
		"unix://run/x":             "unix:///run/app.sock",
		"unix://":                  "unix:///run/app.sock",
		"unix:///run/../etc/x":     "unix:///run/app.sock",
		"unix:///run/x?proxy=only": "write proxy=v2",
	} {
		s, err := New(spec, Limits{}, nil)
		if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want an error with %q", spec, s, err, want)
		}
	}
}

func TestLimitsErrors(t *testing.T) {
	for spec, l := range map[string]Limits{
		"echo:":         {Streams: 1},
		"discard:":      {ConnectTimeout: time.Second},
		"udp://h:1":     {IdleTimeout: time.Second},
		"tcp://h:1":     {Rate: -1},
		"unix:///run/x": {ClientSessions: -1},
	} {
		if _, err := New(spec, l, nil); !errors.Is(err, ErrLimits) {
			t.Errorf("%s with %+v: %v", spec, l, err)
		}
	}
}

// One client's sessions are counted apart, and all of them together.
func TestSessionLimits(t *testing.T) {
	s := newService(t, "discard:", Limits{Sessions: 2, ClientSessions: 1})
	open := func(key byte) (*fakeConn, <-chan error) {
		c := newFakeConn()
		c.key[0] = key
		return c, serveLimited(t.Context(), s, c)
	}
	refused := func(key byte, want string) {
		t.Helper()
		c, errs := open(key)
		if err := wait(t, errs); err != nil || c.code != wire.CloseLimit || !strings.Contains(c.reason, want) {
			t.Errorf("%v; the client was told %v %q, want %q", err, c.code, c.reason, want)
		}
	}
	a, errA := open(1)
	for a.in <- "in"; len(a.in) > 0; { // it is served
		time.Sleep(time.Millisecond)
	}
	refused(1, "your key has its 1 sessions")
	b, errB := open(2)
	for b.in <- "in"; len(b.in) > 0; {
		time.Sleep(time.Millisecond)
	}
	refused(3, "the service has its 2 sessions")
	a.Close(wire.CloseDone, "")
	wait(t, errA)
	c, errC := open(3)
	for c.in <- "in"; len(c.in) > 0; {
		time.Sleep(time.Millisecond)
	}
	b.Close(wire.CloseDone, "")
	c.Close(wire.CloseDone, "")
	wait(t, errB)
	wait(t, errC)
	if n := len(s.gate.clients); n != 0 || s.gate.total != (use{}) {
		t.Errorf("%d clients and %+v are left", n, s.gate.total)
	}
	if got, want := s.Use(), (Use{SessionsServed: 3, SessionsRefused: 2}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// Datagrams beyond the rate are lost, in each direction for itself.
func TestDatagramRate(t *testing.T) {
	s := newService(t, "echo:", Limits{ClientRate: 10_000})
	c := newFakeConn()
	errs := serveLimited(t.Context(), s, c)
	go func() { // 100 kB in no time, where 100 ms of 10 kB/s fit
		for range 100 {
			c.in <- strings.Repeat("x", 1000)
		}
		for len(c.in) > 0 {
			time.Sleep(time.Millisecond)
		}
		c.Close(wire.CloseDone, "")
	}()
	n := 0
	for over := false; !over; {
		select {
		case <-c.out:
			n++
		case <-c.done:
			over = true
		}
	}
	if err := wait(t, errs); err != nil {
		t.Error(err)
	}
	if n < 1 || n > 10 {
		t.Errorf("%d of 100 datagrams came back, want some two", n)
	}
}

func TestBucket(t *testing.T) {
	b := bucket{perSecond: 1000}
	now := time.Now()
	if d := b.take(100, now); d != 0 {
		t.Errorf("the burst waits %v", d)
	}
	if d := b.take(1000, now); d != time.Second {
		t.Errorf("a second's worth waits %v", d)
	}
	if b.allow(1, now) {
		t.Error("more at once is allowed")
	}
	now = now.Add(time.Hour)
	if !b.allow(1e6, now) || b.allow(1, now) {
		t.Error("after a pause one may pass, and not two of any size")
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

// What a client sends beyond its own rate takes nothing from the other clients.
func TestRatesOfTwoClients(t *testing.T) {
	g := newGate(Limits{Rate: 1_000_000, ClientRate: 1000})
	greedy, other := handshake.PublicKey{1}, handshake.PublicKey{2}
	for _, key := range []handshake.PublicKey{greedy, other} {
		if _, refusal := g.session(key); refusal != "" {
			t.Fatal(refusal)
		}
	}
	flood := throttled{rates: g.rates(greedy)}
	passed := 0
	for range 10_000 { // 10 MB, ten seconds' worth of all
		if flood.mayPass(1000) {
			passed++
		}
	}
	if passed == 0 || passed > 10 {
		t.Errorf("%d of the flood have passed, want some", passed)
	}
	if !(throttled{rates: g.rates(other)}).mayPass(1000) {
		t.Error("the other client's first datagram is lost")
	}
}
