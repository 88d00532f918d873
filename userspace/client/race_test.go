// SPDX-License-Identifier: Apache-2.0

package client

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
)

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

// From a network of IPv4 to one of IPv6 alone, where the server has an address of
// the translator's, and back.
func TestNAT64(t *testing.T) {
	nat64 := netip.MustParseAddrPort("[64:ff9b::c000:201]:7626")
	for _, name := range []string{"edge.test", simServer.String()} {
		t.Run(name, func(t *testing.T) {
			named := func(c *Config) {
				c.Server, c.Servers = name, nil
				c.Network.(*simHost).name(name, simServer)
			}
			if name == simServer.String() {
				named = nil // as one of Config.Servers
			}
			simulate(t, named, func(x *sim) {
				x.net.mu.Lock()
				x.net.conns[nat64] = x.net.conns[simServer6] // the translator, as seen from here
				x.rig.conn.(*simConn).addrs = append(x.rig.conn.(*simConn).addrs, nat64)
				x.net.mu.Unlock()
				for range 2 {
					x.host.set(wifi6) // and the resolver is not there yet
					x.told(EventNoRoute, time.Time{})
					time.Sleep(500 * time.Millisecond)
					x.host.name(name, simServer, nat64)
					x.until("IPv6", func() bool { return x.s.RemoteAddr() == nat64 })
					x.flows()
					x.host.name(name, simServer)
					x.host.set(lte)
					x.until("IPv4", func() bool { return x.s.RemoteAddr() == simServer })
					x.flows()
				}
				x.same()
			})
		})
	}
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
