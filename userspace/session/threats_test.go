// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// The rows of docs/THREATS.md that are the state machine's alone, each under its
// own name. TestAdversary and TestAdversaryBothEnds are about those of the path.

// TestThreatSpareIDsRunOut: 10,000 rebinds while no id can be issued.
func TestThreatSpareIDsRunOut(t *testing.T) {
	m := opened(t, 1)
	m.s.ids.fail, m.c.ids.fail = true, true
	n := 10_000
	if testing.Short() || testutil.Race { // a session has one thread
		n = 1000
	}
	for i := range n {
		addr := netip.AddrPortFrom(addrB.Addr(), uint16(1024+i%5000))
		m.rebind(addr)
		m.s.got = nil
		m.clientSend("x")
		m.run(2 * m.rtt)
		if got := m.s.Path().Remote; got != addr || len(m.s.got) != 1 {
			t.Fatalf("rebind %d: server on %v, got %q", i, got, m.s.got)
		}
	}
	if i := m.s.Info(); i.Moves.Committed != uint64(n) || i.LocalIDs > maxLive {
		t.Errorf("%+v", i)
	}
	m.s.ids.fail, m.c.ids.fail = false, false
	m.talk(3 * issueAgain)
	if c, s := m.c.Info(), m.s.Info(); c.SpareRemoteIDs != 2 || s.SpareRemoteIDs != 2 {
		t.Errorf("spare %d and %d", c.SpareRemoteIDs, s.SpareRemoteIDs)
	}
}

// TestThreatCounterRollover: ids that start at 2^28-10, with and without others.
func TestThreatCounterRollover(t *testing.T) {
	m := opened(t, 1)
	m.c.rid.counter, m.s.rid.counter = wire.MaxCounter-10, wire.MaxCounter-10
	m.talk(20 * time.Second)
	if m.c.rid.Seq == 0 || m.s.rid.Seq == 0 {
		t.Error("an end stayed on its id")
	}
	for _, role := range []Role{Client, Server} {
		m := opened(t, 1)
		m.c.ids.fail, m.s.ids.fail = true, true
		from, to := &m.c, &m.s
		if role == Server {
			from, to = to, from
		}
		from.remote = from.remote[:1]
		from.rid.counter = wire.MaxCounter - 10
		var err error
		for range 20 {
			if err = from.Send(m.now, []byte("x"), &from.out); err != nil {
				break
			}
			m.flush(from)
		}
		m.flush(from)
		if err != ErrClosed || from.rid.counter > wire.MaxCounter {
			t.Errorf("%v: %v, counter %d", role, err, from.rid.counter)
		}
		m.run(time.Second)
		if ev := to.event(EventClosed); ev.Code != wire.CloseLimit {
			t.Errorf("%v: the other end saw %+v", role, to.events)
		}
	}
}

// A train of moves and rebindings, under 5 % loss, ends at the last place.
func TestTrainUnderLoss(t *testing.T) {
	for seed := range uint64(200) {
		m := opened(t, seed)
		m.network = func(f flight) []flight {
			if m.rng.IntN(20) == 0 {
				return nil
			}
			return []flight{f}
		}
		for i := range 30 {
			addr := netip.AddrPortFrom([]netip.Addr{addrB.Addr(), addrC.Addr()}[m.rng.IntN(2)], uint16(2000+i))
			if m.rng.IntN(2) == 0 {
				m.rebind(addr)
				m.clientSend("here")
			} else {
				m.move(m.c.Path().Socket+1, addr)
			}
			if m.rng.IntN(8) == 0 {
				m.c.Rekey(m.now, &m.c.out)
				m.flush(&m.c)
			}
			m.run(time.Duration(m.rng.Int64N(int64(m.rtt))))
		}
		for range 20 {
			m.clientSend("last")
			m.run(100 * time.Millisecond)
		}
		if got, want := m.s.Path().Remote, m.socket[m.c.Path().Socket]; got != want {
			t.Fatalf("seed %d: ended at %v, not %v", seed, got, want)
		}
		m.network = nil
		m.talk(2 * time.Second)
	}
}

// Sessions that move a hundred times under 5 % loss lose nothing for ever: no
// session, no id, no path, no secret.
func TestSoak(t *testing.T) {
	sessions := uint64(200)
	if testing.Short() || testutil.Race { // a session has one thread
		sessions = 20
	}
	for seed := range sessions {
		m := opened(t, 900+seed)
		m.network = func(f flight) []flight {
			if m.rng.IntN(20) == 0 {
				return nil
			}
			return []flight{f}
		}
		for i := range 100 {
			m.move(uint32(2+i), netip.AddrPortFrom(addrB.Addr(), uint16(2000+i)))
			if i%40 == 20 {
				m.c.Rekey(m.now, &m.c.out)
				m.flush(&m.c)
			}
			for range 1 + m.rng.IntN(3) {
				m.clientSend(fmt.Sprint("up ", i))
				m.serverSend(fmt.Sprint("down ", i))
				m.run(time.Duration(m.rng.Int64N(int64(time.Second))))
			}
		}
		m.network = nil
		m.run(time.Second)
		m.talk(time.Second)
		m.run(30 * time.Second)
		c, s := m.c.Info(), m.s.Info()
		if c.LocalIDs != 3 || s.LocalIDs != 3 || c.SpareRemoteIDs != 2 || s.SpareRemoteIDs != 2 || c.Epoch != s.Epoch || c.Epoch == 0 {
			t.Fatalf("seed %d:\n%+v\n%+v", seed, c, s)
		}
		if len(m.c.remote) > 4 || len(m.s.remote) > 4 || m.c.finder.left != nil || m.s.candidates != nil || m.s.departures != nil {
			t.Fatalf("seed %d: something is left over: ids %d and %d, paths %v %v %v", seed, len(m.c.remote), len(m.s.remote), m.c.finder.left, m.s.candidates, m.s.departures)
		}
		if s.Counts[AuthFailed]+c.Counts[AuthFailed] > 0 {
			t.Fatalf("seed %d: %d packets did not open", seed, s.Counts[AuthFailed]+c.Counts[AuthFailed])
		}
	}
}
