// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// logged is what a service has told its operator.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count is how many lines are of an event, each with a way out.
func (l *logged) count(t *testing.T, event string) (n int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, "msg="+event+" ") {
			n++
			if !strings.Contains(line, "fix=") {
				t.Errorf("no way out: %s", line)
			}
		}
	}
	return n
}

func newLogged(t *testing.T, spec string, limits Limits) (*Service, *logged) {
	t.Helper()
	l := new(logged)
	s, err := New(spec, limits, slog.New(slog.NewTextHandler(l, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, l
}

// The operator hears once that a UDP backend is away, whoever asks for it, and the
// clients each time what to do.
func TestUDPDownIsToldOnce(t *testing.T) {
	address, free := testutil.Unserved(t, "udp")
	s, log := newLogged(t, "udp://"+address, Limits{})
	for range 3 {
		c := newFakeConn()
		errs := serveLimited(t.Context(), s, c)
		c.in <- "anyone?"
		wait(t, errs)
		if c.code != wire.CloseServiceGone || !strings.Contains(c.reason, "tell the server's operator") {
			t.Errorf("the client was told %v %q", c.code, c.reason)
		}
	}
	if n := log.count(t, "backend_down"); n != 1 {
		t.Errorf("told %d times that it is down", n)
	}
	free()
	back, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	go func() {
		b := make([]byte, 100)
		if n, from, err := back.ReadFrom(b); err == nil {
			back.WriteTo(b[:n], from)
		}
	}()
	c := newFakeConn()
	errs := serveLimited(t.Context(), s, c)
	c.in <- "now?"
	c.next(t)
	c.Close(wire.CloseDone, "")
	wait(t, errs)
	log.mu.Lock()
	defer log.mu.Unlock()
	if !strings.Contains(log.text.String(), "msg=backend_up") {
		t.Errorf("not told that it is back:\n%s", log.text.String())
	}
}

// A refusal by a limit is told to the operator, and not each of a flood.
func TestRefusalIsTold(t *testing.T) {
	s, log := newLogged(t, "discard:", Limits{ClientSessions: 1})
	leave, refusal := s.gate.session(newFakeConn().key)
	if refusal != "" {
		t.Fatal(refusal)
	}
	defer leave()
	for range 100 {
		c := newFakeConn()
		if err := s.Serve(t.Context(), c); err != nil || !strings.HasSuffix(c.reason, ": end one first") {
			t.Errorf("%v; the client was told %q", err, c.reason)
		}
	}
	if n := log.count(t, "session_refused"); n < 1 || n > 50 {
		t.Errorf("%d of 100 refusals were told, want some", n)
	}
}
