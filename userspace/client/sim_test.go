// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// The addresses of the simulated hosts.
const (
	wifi, lte   = "10.0.0.2", "10.1.0.2"
	wifi6, lte6 = "2001:db8:a::2", "2001:db8:b::2"
)

var (
	simServer  = netip.MustParseAddrPort("192.0.2.1:7626")
	simSecond  = netip.MustParseAddrPort("192.0.2.2:7626")
	simServer6 = netip.MustParseAddrPort("[2001:db8::1]:7626")
)

// sim is a client on a host with two networks and a server with several
// addresses, in a synctest bubble.
type sim struct {
	*testing.T
	net  *simNet
	host *simHost
	rig  *rig
	s    *Session
	ev   events
}

// simulate runs a test in a bubble. The session is dialled over wifi and carries
// a datagram every 100 ms each way.
func simulate(t *testing.T, mend func(*Config), f func(*sim)) {
	synctest.Test(t, func(t *testing.T) {
		x := &sim{T: t, net: newSimNet()}
		x.host = &simHost{net: x.net}
		x.host.set(wifi, lte)
		conn, err := x.net.listen(simServer, simSecond, simServer6)
		if err != nil {
			t.Fatal(err)
		}
		x.rig = newRigOn(t, conn)
		cfg := Config{Servers: []netip.AddrPort{simServer}, ServerKey: x.rig.key.Public(), Service: 7, Network: x.host, OnEvent: x.ev.add}
		if mend != nil {
			mend(&cfg)
		}
		if x.s, err = Dial(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		go x.traffic(stop)
		t.Cleanup(func() { // also after a failure
			close(stop)
			x.s.Close(wire.CloseDone, "")
		})
		x.until("traffic", func() bool { return x.s.Info().Received.Datagrams > 3 })
		f(x)
		x.net.heal()
		x.s.Close(wire.CloseDone, "")
		if n := x.net.open(func(a netip.Addr) bool { return !slices.Contains(conn.addrs, netip.AddrPortFrom(a, 7626)) }); n != 0 {
			t.Errorf("%d sockets are left after Close", n)
		}
	})
}

func (x *sim) traffic(stop chan struct{}) {
	ctx, cancel := context.WithCancel(x.Context())
	defer cancel()
	go func() {
		for p := make([]byte, 2000); ; {
			if _, err := x.s.ReceiveDatagram(ctx, p); err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
		_ = x.s.SendDatagram([]byte("tick")) // its end is what the test looks at
	}
}

// until waits for a condition, in the time of the bubble.
func (x *sim) until(what string, ok func() bool) {
	x.Helper()
	for end := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			x.Fatalf("never: %s; told %v", what, x.ev.kinds())
		}
	}
}

// told waits for the first event of a kind from a time on.
func (x *sim) told(kind EventKind, from time.Time) (e Event) {
	x.Helper()
	x.until("event "+kind.String(), func() bool {
		for _, e = range x.ev.find(kind) {
			if !e.At.Before(from) {
				return true
			}
		}
		return false
	})
	return e
}

// flows waits until a datagram has come back that was sent from now on.
func (x *sim) flows() {
	x.Helper()
	time.Sleep(2 * x.net.delay) // what is under way
	before, g := x.s.Info().Received.Datagrams, x.s.Generation()
	x.until("traffic", func() bool {
		i := x.s.Info()
		return i.Received.Datagrams > before+2 || i.Generation > g && i.Received.Datagrams > 2
	})
}

// same checks that the session is the one that was dialled.
func (x *sim) same() {
	x.Helper()
	if g := x.s.Generation(); g != 1 || len(x.ev.find(EventReopened)) != 0 {
		x.Errorf("generation %d: the session was replaced; told %v", g, x.ev.kinds())
	}
}

func (x *sim) local(want string) {
	x.Helper()
	if got := x.s.LocalAddr().Addr().String(); got != want {
		x.Errorf("the session is at %s, not at %s; told %v", got, want, x.ev.kinds())
	}
}

// newSimRig is newRig in a synctest bubble, on a network in memory: no machine is
// too busy for what it asserts of time.
func newSimRig(t testing.TB, mend ...func(*rig)) (*rig, *testNetwork) {
	t.Helper()
	sim := newSimNet()
	conn, err := sim.listen(netip.MustParseAddrPort("127.0.0.1:7626"))
	if err != nil {
		t.Fatal(err)
	}
	network := newNetwork("127.0.0.2", "")
	network.sim = sim
	return newRigOn(t, conn, append(mend, func(r *rig) { r.network = network })...), network
}
