// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
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

// The network that the system prefers dies without a word, in one direction or in
// both: the session goes on over the other one.
func TestSilentNetworkIsLeft(t *testing.T) {
	for name, dir := range map[string]struct{ out, in bool }{
		"both ways": {true, true}, "client to server": {true, false}, "server to client": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, nil, func(x *sim) {
				before, start := x.s.Info(), time.Now()
				x.net.cut(wifi, dir.out, dir.in)
				silent := x.told(EventSilent, start)
				moved := x.told(EventMoved, start)
				x.flows()
				x.local(lte)
				x.same()
				if d := moved.At.Sub(silent.At); d > 3*x.net.delay {
					t.Errorf("%v from silence to move: the race was not at once", d)
				}
				if d := silent.At.Sub(start); d > 2*time.Second {
					t.Errorf("%v until the silence was noticed", d)
				}
				if after := x.s.Info(); after.RemoteID == before.RemoteID || after.LocalID == before.LocalID {
					t.Error("an id was kept over the move")
				}
				x.until("one socket", func() bool { return x.s.Info().Sockets == 1 })
				if got := x.ev.kinds(); slices.Contains(got, EventReopening) {
					t.Errorf("told %v", got)
				}
				// It stays while the wifi is dead, though the system names it again and again.
				for range 5 {
					x.host.tell()
					time.Sleep(3 * time.Second)
				}
				x.local(lte)
				// And goes back when that answers, told of or not.
				x.net.heal()
				x.until("back on wifi", func() bool { return x.s.LocalAddr().Addr().String() == wifi })
				x.flows()
				x.same()
			})
		})
	}
}

// A move to a network that swallows everything (a captive portal) is undone by a
// race, long before the silence of an unknown path would show.
func TestMoveToADeadNetwork(t *testing.T) {
	simulate(t, nil, func(x *sim) {
		x.host.set(lte)
		x.told(EventMoved, time.Time{})
		x.net.cut(wifi, true, true)
		start := time.Now()
		x.host.set(wifi, lte)
		x.told(EventMoving, start)
		x.until("back on lte", func() bool { return x.s.LocalAddr().Addr().String() == lte })
		if d := time.Since(start); d > graceTime+100*time.Millisecond {
			t.Errorf("%v until it was back", d)
		}
		x.flows()
		x.same()
	})
}

// For as long as the server has the session, no outage loses it: whenever the
// network comes back, the old session goes on, though another one was being opened.
func TestOutageKeepsTheSession(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		outage := time.Duration(rnd.Int64N(int64(time.Minute)))
		t.Run(outage.String(), func(t *testing.T) {
			simulate(t, nil, func(x *sim) {
				x.net.setDrop(func(_, _ netip.AddrPort, _ []byte) bool { return true })
				time.Sleep(outage)
				x.net.heal()
				start := time.Now()
				x.flows()
				x.same()
				x.until("one socket", func() bool { return x.s.Info().Sockets == 1 })
				x.until("rest", func() bool { return !x.s.Info().Reopening })
				if outage > 5*time.Second && len(x.ev.find(EventReopening)) == 0 {
					t.Errorf("nothing was tried: told %v", x.ev.kinds())
				}
				if d := time.Since(start); d > 80*time.Second {
					t.Errorf("%v until it was back", d)
				}
			})
		})
	}
}

// Killed and started again, the server tells by a reset: one round trip later there
// is a new session.
func TestResetReopensInOneRoundTrip(t *testing.T) {
	for _, outage := range []time.Duration{0, 500 * time.Millisecond, 3 * time.Second, 30 * time.Second} {
		t.Run(outage.String(), func(t *testing.T) {
			simulate(t, nil, func(x *sim) {
				x.net.setDrop(func(_, to netip.AddrPort, _ []byte) bool { return to == simServer })
				time.Sleep(outage)
				x.rig.crash(true)
				x.net.heal()
				back := time.Now()
				e := x.told(EventReopened, back)
				if e.Generation != 2 || x.s.Generation() != 2 || outage == 0 && e.From.Local.Addr() != e.To.Local.Addr() {
					t.Errorf("told %+v, generation %d", e, x.s.Generation())
				}
				// From the first packet that reached the server: its answer, INIT, RESP; no
				// timer in between.
				sent := x.net.since(back)
				first := slices.IndexFunc(sent, func(p simPacket) bool { return p.to == simServer })
				if d, most := e.At.Sub(sent[first].at), 4*x.net.delay; d > most {
					t.Errorf("%v from the first packet to the new session, %v at most", d, most)
				}
				x.flows()
				x.until("one socket", func() bool { return x.s.Info().Sockets == 1 })
				x.rig.with(func() {
					if len(x.rig.sessions) == 0 || len(x.rig.sessions) > 2 {
						t.Errorf("the server has %d sessions", len(x.rig.sessions))
					}
				})
				why := x.ev.find(EventReopening)
				if last := why[len(why)-1]; outage == 0 && !errors.Is(last.Err, ErrLost) {
					t.Errorf("told %+v", last)
				}
			})
		})
	}
}

// A server that cannot even tell its own ids is found by INIT.
func TestForgetfulServerIsFound(t *testing.T) {
	simulate(t, nil, func(x *sim) {
		x.rig.crash(false)
		start := time.Now()
		silent := x.told(EventSilent, start)
		reopening := x.told(EventReopening, start)
		e := x.told(EventReopened, start)
		if !errors.Is(reopening.Err, ErrSilent) || e.Generation != 2 {
			t.Errorf("told %+v, %+v", reopening, e)
		}
		if d := e.At.Sub(silent.At); d > 5*time.Second {
			t.Errorf("%v from silence to the new session", d)
		}
		x.flows()
		if i := x.s.Info(); i.Reopening || i.Lost != nil {
			t.Errorf("%+v", i)
		}
	})
}

// The new session is closed towards a server that still has the old one.
func TestReplacedSessionIsClosed(t *testing.T) {
	simulate(t, nil, func(x *sim) {
		// DATA of the old session does not pass, INIT and what follows does: a firewall
		// that forgot the flow, say, and hates what it does not know.
		var fresh netip.AddrPort
		x.net.setDrop(func(from, to netip.AddrPort, pkt []byte) bool {
			if pkt[0] == wire.TypeInit {
				fresh = from
			}
			return pkt[0] == wire.TypeData && from != fresh && to != fresh
		})
		x.told(EventReopened, time.Time{})
		x.flows()
		x.until("CLOSE", func() (closed bool) {
			x.rig.with(func() { closed = x.rig.sessions[0].closed != nil })
			return closed
		})
		x.rig.with(func() {
			if c := x.rig.sessions[0].closed; !c.Remote || c.Code != wire.CloseDone {
				t.Errorf("the server heard %+v", c)
			}
		})
	})
}

func TestWithoutReopening(t *testing.T) {
	no := func(c *Config) { c.NoReopen = true }
	t.Run("reset", func(t *testing.T) {
		simulate(t, no, func(x *sim) {
			x.rig.crash(true)
			e := x.told(EventClosed, time.Time{})
			var closed *ClosedError
			if !errors.Is(e.Err, ErrLost) || !errors.As(x.s.Err(), &closed) || !closed.Remote {
				t.Errorf("told %+v, Err %v", e, x.s.Err())
			}
			if err := x.s.SendDatagram([]byte("x")); !errors.Is(err, ErrLost) {
				t.Errorf("send: %v", err)
			}
		})
	})
	t.Run("outage", func(t *testing.T) {
		simulate(t, no, func(x *sim) {
			x.net.setDrop(func(_, _ netip.AddrPort, _ []byte) bool { return true })
			start := time.Now()
			time.Sleep(40 * time.Second)
			x.net.heal()
			x.flows()
			x.same()
			if n := kinds(x.net.since(start), wire.TypeInit, func(simPacket) bool { return true }); n != 0 {
				t.Errorf("%d INITs", n)
			}
		})
	})
}

// A restart in order is survived like a crash.
func TestServerRestartsInOrder(t *testing.T) {
	simulate(t, nil, func(x *sim) {
		x.rig.with(func() { x.rig.refuse = wire.StatusBusy })
		x.rig.closeAll(wire.CloseShuttingDown, "restart")
		e := x.told(EventReopening, time.Time{})
		var closed *ClosedError
		if !errors.As(e.Err, &closed) || closed.Code != wire.CloseShuttingDown {
			t.Errorf("told %+v", e)
		}
		x.told(EventReopenFailed, time.Time{})
		if i := x.s.Info(); i.Lost == nil || !i.Reopening {
			t.Errorf("%+v", i)
		}
		x.rig.with(func() { x.rig.refuse = wire.StatusAccepted })
		x.told(EventReopened, time.Time{})
		x.flows()
		if i := x.s.Info(); i.Unsent == 0 || i.Generation != 2 {
			t.Errorf("unsent %d, generation %d", i.Unsent, i.Generation)
		}
	})
}

// A server that does not want us any more is not asked again and again.
func TestRefusedWhenReopening(t *testing.T) {
	simulate(t, nil, func(x *sim) {
		x.rig.with(func() { x.rig.refuse = wire.StatusNotAuthorised })
		x.rig.crash(true)
		e := x.told(EventClosed, time.Time{})
		var refused *RefusedError
		if !errors.As(e.Err, &refused) || refused.Status != wire.StatusNotAuthorised || !errors.As(x.s.Err(), &refused) {
			t.Errorf("told %+v, Err %v", e, x.s.Err())
		}
	})
}

// Close in every phase of a search: see simulate for what must be left.
func TestCloseWhileLost(t *testing.T) {
	for ms := 0; ms < 20000; ms += 700 {
		simulate(t, nil, func(x *sim) {
			x.net.setDrop(func(_, _ netip.AddrPort, _ []byte) bool { return true })
			time.Sleep(time.Duration(ms) * time.Millisecond)
			start := time.Now()
			x.s.Close(wire.CloseDone, "enough")
			if d := time.Since(start); d > closeWait {
				t.Errorf("after %d ms: Close took %v", ms, d)
			}
			var closed *ClosedError
			if !errors.As(x.s.Err(), &closed) || closed.Reason != "enough" {
				t.Errorf("after %d ms: %v", ms, x.s.Err())
			}
		})
	}
	for wait := range 8 { // and between the reset and RESP
		simulate(t, nil, func(x *sim) {
			x.rig.crash(true)
			x.until("reset", func() (n bool) { x.rig.with(func() { n = x.rig.resets > 0 }); return n })
			time.Sleep(time.Duration(wait) * 5 * time.Millisecond)
			x.s.Close(wire.CloseDone, "enough")
		})
	}
}

// The server moves to another address, which only its name tells.
func TestServerMovesByName(t *testing.T) {
	simulate(t, func(c *Config) {
		c.Server, c.Servers = "edge.test", nil
		c.Network.(*simHost).name("edge.test", simServer)
	}, func(x *sim) {
		x.host.name("edge.test", simSecond)
		x.net.cut(simServer.Addr().String(), true, true)
		start := time.Now()
		silent := x.told(EventSilent, start)
		moved := x.told(EventMoved, start)
		x.flows()
		x.same()
		if x.s.RemoteAddr() != simSecond {
			t.Errorf("the session is with %v", x.s.RemoteAddr())
		}
		if d := moved.At.Sub(silent.At); d > 100*time.Millisecond {
			t.Errorf("%v from silence to move", d)
		}
	})
}

// The server tells its other addresses, and one of them is left when the first
// dies; or it tells that it leaves the first.
func TestServerMovesByAddrs(t *testing.T) {
	for name, tc := range map[string]struct {
		addrs []netip.AddrPort
		dies  bool
	}{"dies": {[]netip.AddrPort{simServer, simSecond}, true}, "leaves": {[]netip.AddrPort{simSecond}, false}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, nil, func(x *sim) {
				x.rig.with(func() {
					var out session.Output
					if err := x.rig.sessions[0].SetAddrs(time.Since(x.rig.start), tc.addrs, &out); err != nil {
						t.Error(err)
					}
					x.rig.flush(x.rig.sessions[0], &out)
				})
				if tc.dies {
					time.Sleep(100 * time.Millisecond)
					x.net.cut(simServer.Addr().String(), true, true)
				}
				x.until("the other address", func() bool { return x.s.RemoteAddr() == simSecond })
				x.flows()
				x.same()
				if !tc.dies && len(x.ev.find(EventSilent)) > 0 {
					t.Error("it fell silent first")
				}
			})
		})
	}
}

// From a network of IPv4 to one of IPv6 alone, where the name has an address of
// the translator's, and back.
func TestNAT64(t *testing.T) {
	nat64 := netip.MustParseAddrPort("[64:ff9b::c000:201]:7626")
	simulate(t, func(c *Config) {
		c.Server, c.Servers = "edge.test", nil
		c.Network.(*simHost).name("edge.test", simServer)
	}, func(x *sim) {
		x.net.mu.Lock()
		x.net.conns[nat64] = x.net.conns[simServer6] // the translator, as seen from here
		x.rig.conn.(*simConn).addrs = append(x.rig.conn.(*simConn).addrs, nat64)
		x.net.mu.Unlock()
		for range 2 {
			x.host.set(wifi6) // and the resolver is not there yet
			x.told(EventNoRoute, time.Time{})
			time.Sleep(500 * time.Millisecond)
			x.host.name("edge.test", nat64)
			x.until("IPv6", func() bool { return x.s.RemoteAddr() == nat64 })
			x.flows()
			x.host.name("edge.test", simServer)
			x.host.set(lte)
			x.until("IPv4", func() bool { return x.s.RemoteAddr() == simServer })
			x.flows()
		}
		x.same()
	})
}

// The machine sleeps for hours. What it sent from is forgotten by the NAT: only a
// new socket gets through.
func TestSleep(t *testing.T) {
	simulate(t, nil, func(x *sim) {
		old := x.s.LocalAddr()
		x.net.setDrop(func(from, to netip.AddrPort, _ []byte) bool { return from == old || to == old })
		start := time.Now()
		x.host.sleep(3 * time.Hour)
		x.told(EventClockJump, start)
		moved := x.told(EventMoved, start)
		if d := moved.At.Sub(start); d > settleTime+3*x.net.delay {
			t.Errorf("%v from waking up to the move", d)
		}
		x.flows()
		x.same()
		if x.s.LocalAddr() == old {
			t.Error("it is where it was")
		}
		// Where nothing was forgotten nothing changes.
		x.net.heal()
		x.until("one socket", func() bool { return x.s.Info().Sockets == 1 })
		at := x.s.LocalAddr()
		x.host.sleep(time.Hour)
		x.flows()
		x.until("one socket", func() bool { return x.s.Info().Sockets == 1 })
		if x.s.LocalAddr() != at {
			t.Logf("moved from %v to %v, which is allowed", at, x.s.LocalAddr())
		}
		// A small difference between the clocks is no sleep.
		n := len(x.ev.find(EventClockJump))
		x.host.sleep(time.Second)
		x.flows()
		if got := len(x.ev.find(EventClockJump)); got != n {
			t.Errorf("%d clock jumps, were %d", got, n)
		}
	})
}

// The answer to INIT is followed by silence: the session was never confirmed.
func TestNeverConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSimNet()
		conn, err := n.listen(simServer)
		if err != nil {
			t.Fatal(err)
		}
		r := newRigOn(t, conn)
		host := &simHost{net: n}
		host.set(wifi)
		n.setDrop(func(_, _ netip.AddrPort, pkt []byte) bool { return pkt[0] == wire.TypeData })
		var ev events
		s, err := Dial(t.Context(), Config{Servers: []netip.AddrPort{simServer}, ServerKey: r.key.Public(), Network: host, OnEvent: ev.add})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(confirmTime + time.Second)
		if s.Generation() != 2 || len(ev.find(EventReopening)) != 1 {
			t.Errorf("generation %d, told %v", s.Generation(), ev.kinds())
		}
		n.heal()
		time.Sleep(5 * time.Second)
		if i := s.Info(); i.State != session.StateOpen || i.Reopening {
			t.Errorf("%+v", i)
		}
		s.Close(wire.CloseDone, "")
	})
}

// Whatever happens to networks, names and server: once all is well the session
// works, and no socket is left over.
func TestAnythingHappens(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			simulate(t, func(c *Config) {
				c.Server = "edge.test"
				c.Network.(*simHost).name("edge.test", simServer, simServer6)
			}, func(x *sim) {
				all := []string{wifi, lte, wifi6, lte6}
				crashed := false
				for range 25 {
					switch rnd.IntN(9) {
					case 0, 1, 2:
						rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
						x.host.set(all[:rnd.IntN(len(all)+1)]...)
					case 3:
						x.net.cut(all[0], rnd.IntN(2) == 0, rnd.IntN(2) == 0)
					case 4:
						x.net.setDrop(func(_, _ netip.AddrPort, _ []byte) bool { return rand.IntN(10) < 3 })
					case 5:
						x.net.heal()
					case 6:
						x.host.sleep(time.Duration(rnd.IntN(7200)) * time.Second)
					case 7:
						addrs := []netip.AddrPort{simServer, simSecond, simServer6}
						x.host.name("edge.test", addrs[rnd.IntN(3)])
					case 8:
						x.rig.crash(rnd.IntN(3) > 0)
						crashed = true
					}
					time.Sleep(time.Duration(rnd.Int64N(int64(4 * time.Second))))
					if n := x.s.Info().Sockets; n > 24 {
						t.Fatalf("%d sockets are open", n)
					}
				}
				x.net.heal()
				x.host.name("edge.test", simServer, simServer6)
				x.host.set(wifi, lte, wifi6)
				x.flows()
				if !crashed {
					x.same()
				}
				x.until("one socket, and it rests", func() bool {
					i, n := x.s.Info(), x.net.open(func(a netip.Addr) bool { return slices.Contains(all, a.String()) })
					return i.Sockets == 1 && n == 1 && !i.Reopening
				})
			})
		})
	}
}
