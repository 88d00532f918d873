// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

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

// The server accepts another session, and in the same instant the old one is heard
// again: the old one goes on.
func TestLivingSessionIsNotReplaced(t *testing.T) {
	simulate(t, nil, func(x *sim) {
		x.net.setDrop(func(from, _ netip.AddrPort, pkt []byte) bool {
			if pkt[0] == wire.TypeResp {
				time.AfterFunc(x.net.delay, x.net.heal)
			}
			return pkt[0] == wire.TypeData && from.Port() != simServer.Port()
		})
		x.told(EventReopening, time.Time{})
		x.until("an answer to INIT", func() (n bool) { x.rig.with(func() { n = x.rig.inits > 1 }); return n })
		x.flows()
		time.Sleep(2 * holdTime)
		x.same()
		x.until("rest", func() bool { i := x.s.Info(); return i.Sockets == 1 && !i.Reopening })
	})
}

// A server that takes no new sessions, as one that drains, still has the old one:
// that is looked for on all paths again and again.
func TestOldSessionIsLookedForWhileRefused(t *testing.T) {
	simulate(t, nil, func(x *sim) {
		x.rig.with(func() { x.rig.refuse = wire.StatusBusy })
		x.net.setDrop(func(_, _ netip.AddrPort, _ []byte) bool { return true })
		time.Sleep(20 * time.Second)
		x.net.cut(wifi, true, true)
		x.until("lte", func() bool { return x.s.LocalAddr().Addr().String() == lte })
		x.flows()
		x.same()
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
