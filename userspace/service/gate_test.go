// SPDX-License-Identifier: Apache-2.0

package service

import (
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

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
	began := time.Now()
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
	// Some two, and ten more with each second that the machine took.
	if most := 10 + int(10*time.Since(began).Seconds()); n < 1 || n > min(most, 99) {
		t.Errorf("%d of 100 datagrams came back", n)
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
