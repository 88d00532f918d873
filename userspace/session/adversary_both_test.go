// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// shown also forges the server's addresses: its packets come to the client from
// others of them, and from the adversary's own.
func (a *adversary) shown(f flight) []flight {
	out := a.network(f)
	for i := range out {
		if g := &out[i]; !g.toServer && a.chance(0.1) {
			g.src = allServers[a.rng.IntN(len(allServers))]
			if a.chance(0.3) {
				g.src = a.own[0]
			}
		}
		if g := &out[i]; g.toServer && a.chance(0.1) {
			g.dst = allServers[a.rng.IntN(len(allServers))]
		}
	}
	return out
}

// TestAdversaryBothEnds is the property test of all that moves: both ends, rekeys
// at random times, rotations, races, silences and pauses, under an adversary that
// owns the network. When it stops, a packet of the victim and two round trips later
// the server is where the victim is; a while later both agree on the server's
// address, and whatever both say arrives.
func TestAdversaryBothEnds(t *testing.T) {
	runs := uint64(1000)
	if testing.Short() || testutil.Race { // a session has one thread
		runs = 200
	}
	var rekeys, races, moves, local, ended uint64
	for seed := range runs {
		m := opened(t, 50_000+seed)
		m.server = allServers
		m.s.SetAddrs(m.now, allServers, &m.s.out)
		m.flush(&m.s)
		m.clientSend("a session of use")
		m.run(time.Second)
		a := &adversary{sim: m, loss: m.rng.Float64() * 0.5}
		for i := range 4 {
			a.own = append(a.own, netip.AddrPortFrom(addrX.Addr(), uint16(6000+i)))
		}
		m.network = a.shown
		socket, place := uint32(2), 0
		fresh := func() (uint32, netip.AddrPort) {
			place++
			socket++
			a.old = append(a.old, a.victim())
			return socket, netip.AddrPortFrom([]netip.Addr{addrB.Addr(), addrC.Addr()}[place%2], uint16(50000+place))
		}
		for range 10 + m.rng.IntN(60) {
			switch m.rng.IntN(15) {
			case 0:
				n, addr := fresh()
				m.move(n, addr)
			case 1:
				_, addr := fresh()
				m.rebind(addr)
			case 2, 3:
				m.clientSend("up")
			case 4, 5:
				m.serverSend(strings.Repeat("down", m.rng.IntN(500)))
			case 6, 7:
				m.c.Rekey(m.now, &m.c.out)
				m.flush(&m.c)
			case 8, 9:
				if m.s.MoveLocal(m.now, allServers[m.rng.IntN(len(allServers))], nil, &m.s.out) == nil {
					local++
				}
				m.flush(&m.s)
			case 10, 11:
				sockets := map[uint32]netip.AddrPort{}
				for range 1 + m.rng.IntN(3) {
					n, addr := fresh()
					sockets[n] = addr
				}
				if err := m.c.Race(m.now, nil, &m.c.out); err != ErrTooManyPaths {
					t.Fatal(err)
				}
				if m.c.Info().Racing < 20 {
					m.race(m.c.Known()[:1+m.rng.IntN(len(m.c.Known()))], sockets)
					races++
				}
			case 12:
				m.run(time.Duration(m.rng.Int64N(int64(10 * time.Second))))
			case 13:
				m.c.Resume(m.now, &m.c.out)
				m.flush(&m.c)
			case 14:
				e := []*end{&m.c, &m.s}[m.rng.IntN(2)]
				e.Leave(m.now, e.Info().LocalID, &e.out)
				m.flush(e)
			}
			m.run(time.Duration(m.rng.Int64N(int64(3 * m.rtt))))
			if n := len(m.s.remote) + len(m.c.remote); n > 40 {
				t.Fatalf("seed %d: %d ids held", seed, n)
			}
		}
		m.network, m.wire = nil, nil
		m.c.StopRace(m.now, &m.c.out)
		m.flush(&m.c)
		m.run(4 * time.Second) // a move of the server's own comes to its end
		victim := a.victim()
		if m.s.backedOff(m.now, Path{Remote: victim}) || slices.ContainsFunc(m.c.backedOffs(), func(b backoff) bool { return m.now < b.until }) {
			m.run(maxBackoff)
		}
		m.clientSend("alone at last")
		m.run(2 * m.rtt)
		c, s := m.c.Info(), m.s.Info()
		if s.Path.Remote != victim {
			t.Fatalf("seed %d: victim at %v, server on %v:\n%+v\n%+v", seed, victim, s.Path, c, s)
		}
		m.serverSend("settle")
		m.run(4 * m.rtt)
		m.clientSend("settle")
		m.run(4 * m.rtt)
		m.forget()
		m.serverSend("for you")
		m.clientSend("for you")
		m.run(m.rtt)
		c, s = m.c.Info(), m.s.Info()
		if !slices.Contains(m.c.got, "for you") || !slices.Contains(m.s.got, "for you") {
			t.Fatalf("seed %d: got %q and %q\n%+v\n%+v", seed, m.c.got, m.s.got, c, s)
		}
		if c.Path.Remote != s.Path.Local {
			t.Fatalf("seed %d: client sends to %v, server from %v\n%+v\n%+v", seed, c.Path, s.Path.Local, c, s)
		}
		if n := c.Counts[ProtocolError] + s.Counts[ProtocolError]; n != 0 {
			t.Fatalf("seed %d: %d protocol errors between two honest ends", seed, n)
		}
		rekeys += uint64(c.Epoch)
		moves += s.Moves.Committed
		// Nothing leaks.
		m.run(2 * maxOldAge)
		m.clientSend("x")
		m.serverSend("x")
		m.run(20 * time.Second)
		c, s = m.c.Info(), m.s.Info()
		if c.LocalIDs > maxLive || s.LocalIDs > maxLive || c.SpareRemoteIDs < 1 || s.SpareRemoteIDs < 1 || c.Epoch != s.Epoch {
			t.Fatalf("seed %d:\n%+v\n%+v", seed, c, s)
		}
		if n := len(m.s.candidates) + len(m.s.departures) + len(m.c.finder.left); n != 0 || m.s.localMove != nil || m.c.race != nil {
			t.Fatalf("seed %d: %d paths left over", seed, n)
		}
		m.c.Close(m.now, 0, "", &m.c.out)
		m.flush(&m.c)
		m.run(time.Minute)
		if !m.c.ended || !m.s.ended {
			t.Fatalf("seed %d: not ended", seed)
		}
		ended++
	}
	t.Logf("%d runs: %d rekeys, %d races, %d moves, %d of the server's own", ended, rekeys, races, moves, local)
	if rekeys < runs || races < runs || moves < runs || local < runs {
		t.Error("too little happened")
	}
}
