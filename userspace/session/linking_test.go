// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// watched has an observer of all of the client's networks look on from now: it
// fails the test when 8 bytes from offset 8 on are seen on two of them, in either
// direction.
func watched(m *sim, what any) {
	seen := map[[8]byte]netip.Addr{}
	m.network = func(f flight) []flight {
		network := f.src.Addr()
		if !f.toServer {
			network = f.dst.Addr()
		}
		for i := 8; i+8 <= len(f.data); i++ {
			v := [8]byte(f.data[i:])
			if before := seen[v]; before.IsValid() && before != network {
				m.t.Fatalf("%v: %v: %x at %d on %v and %v", what, m.now, v, i, before, network)
			}
			seen[v] = network
		}
		return []flight{f}
	}
}

// network is the n-th network of a client that comes around.
func network(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + n)}), 4000)
}

// TestThreatLinking: who captures on two networks that a client was on finds no
// 8-byte value in common from offset 8 on, in either direction, whatever made the
// client change: a known move, a race, with rekeys, floods that have the client leave
// its id, and datagrams before, between or after, at any length of the way.
func TestThreatLinking(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() || testutil.Race { // a session has one thread
		seeds = 50
	}
	var left uint64
	for seed := range seeds {
		left += changesNetworks(t, seed, func(m *sim) { watched(m, seed) })
	}
	if left < seeds {
		t.Errorf("clients left an id %d times in %d runs", left, seeds)
	}
}

// TestThreatLinkingUnderLoss: nor where packets are lost, unless its sender has no other
// id left. That is rare: some of what says which are used has to be lost, as a rule more
// than once, between two moves.
func TestThreatLinkingUnderLoss(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() || testutil.Race { // a session has one thread
		seeds = 50
	}
	for _, percent := range []int{1, 5, 10, 20} {
		linked := uint64(0)
		for seed := range seeds {
			changesNetworks(t, seed, func(m *sim) {
				lossy(m, percent, func(e *end, id wire.ID) {
					linked++
					if r := e.unused(); r != nil {
						t.Errorf("seed %d, %d %% lost: %v: the %v shows %v on two networks though it has %d", seed, percent, m.now, e.role, id, r.Seq)
					}
				})
			})
		}
		t.Logf("%d %% lost: %d of %d clients were linked", percent, linked, seeds)
		if linked*100 > seeds*2 {
			t.Errorf("%d %% lost: %d of %d clients were linked for want of ids", percent, linked, seeds)
		}
	}
}

// lossy has a network lose that many of a hundred packets, and calls linked once, when
// an id is shown on a second network.
func lossy(m *sim, percent int, linked func(*end, wire.ID)) {
	seen := map[wire.ID]netip.Addr{}
	m.network = func(f flight) []flight {
		from, network := &m.c, f.src.Addr()
		if !f.toServer {
			from, network = &m.s, f.dst.Addr()
		}
		id := wire.ID(f.data[8:])
		if before := seen[id]; before.IsValid() && before != network && linked != nil {
			linked(from, id)
			linked = nil
		}
		seen[id] = network
		if m.rng.IntN(100) < percent {
			return nil
		}
		return []flight{f}
	}
}

// unused returns an id that the end could use and has shown to nobody, or nil.
func (e *end) unused() *remoteID {
	for _, r := range e.remote {
		if r.counter == 0 && !r.taken && e.usable(r) && r.Seq > e.unusedAbove() && !e.races(r) {
			return r
		}
	}
	return nil
}

// changesNetworks has a client change its network eight times, watched by who is given.
// It returns how often it left an id that was flooded.
func changesNetworks(t *testing.T, seed uint64, watch func(*sim)) (left uint64) {
	m := opened(t, seed)
	m.rtt = time.Duration(5+m.rng.IntN(300)) * time.Millisecond
	m.clientSend("a session of use")
	m.run(3 * time.Second)
	watch(m)
	pause := func() { m.run(time.Duration(m.rng.IntN(200)) * time.Millisecond) }
	something := func() {
		switch m.rng.IntN(8) {
		case 0:
			m.c.Rekey(m.now, &m.c.out)
			m.flush(&m.c)
		case 1:
			m.clientSend("up")
		case 2:
			m.serverSend("down")
		case 3:
			before := m.s.rid
			m.s.Leave(m.now, m.s.pathLocal.ID, &m.s.out)
			m.flush(&m.s)
			if m.s.rid != before {
				left++
			}
		}
	}
	for i := range 8 {
		something()
		pause()
		if m.rng.IntN(2) == 0 {
			m.move(uint32(10+i), network(i))
		} else {
			m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{uint32(10 + i): network(i)})
		}
		for range m.rng.IntN(5) {
			pause()
			something()
		}
		m.run(time.Duration(15+m.rng.IntN(30)) * time.Second) // spare ids are back
	}
	return left
}

// A pause takes no id from the race that follows it: the winner's would be below
// the one that the datagram goes on.
func TestDatagramDuringRaceAfterPause(t *testing.T) {
	m := opened(t, 1)
	watched(m, "race")
	m.run(idleRotate)
	m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{2: network(0)})
	m.clientSend("up")
	m.run(time.Second)
	if got := m.s.Path().Remote; got != network(0) {
		t.Errorf("the server is on %v", got)
	}
}

// Nor does it take the last id, of the two that a rekey begins with, from a move.
func TestMoveAfterRekeyAndPause(t *testing.T) {
	m := opened(t, 1)
	watched(m, "move")
	m.run(idleRotate)
	m.c.Rekey(m.now, &m.c.out)
	m.flush(&m.c)
	m.run(m.rtt + 1)
	if i := m.c.Info(); i.Epoch != 1 || i.SpareRemoteIDs != 1 {
		t.Fatalf("epoch %d, %d spare ids", i.Epoch, i.SpareRemoteIDs)
	}
	m.clientSend("up")
	m.move(2, network(0))
	m.run(time.Second)
	if got := m.s.Path().Remote; got != network(0) {
		t.Errorf("the server is on %v", got)
	}
}

// Nor does a wake-up.
func TestMoveAfterWakeUp(t *testing.T) {
	m := opened(t, 1)
	watched(m, "move")
	m.run(idleRotate)
	m.clientSend("up") // on a fresh id: one is left
	if err := m.c.Resume(m.now, &m.c.out); err != nil {
		t.Fatal(err)
	}
	m.flush(&m.c)
	m.move(2, network(0))
	m.run(time.Second)
	if got := m.s.Path().Remote; got != network(0) {
		t.Errorf("the server is on %v", got)
	}
}

// A probe that comes on an older id than the current path's, which has gone on to a
// newer one since, is not answered on that.
func TestProbeAcrossRekey(t *testing.T) {
	m := opened(t, 1)
	watched(m, "probe")
	var late []flight
	look := m.network
	m.network = func(f flight) []flight {
		if f.src == network(0) && m.s.Info().Epoch == 0 {
			late = append(late, look(f)...) // it takes long on the new network
			return nil
		}
		return look(f)
	}
	m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{2: network(0)})
	m.c.Rekey(m.now, &m.c.out)
	m.flush(&m.c)
	m.run(2 * m.rtt)
	if m.s.Info().RemoteSeq == 0 || len(late) == 0 {
		t.Fatalf("%d late, %+v", len(late), m.s.Info())
	}
	for _, f := range late {
		m.arrive(f)
	}
	m.run(time.Second)
	if got := m.s.Path().Remote; got != network(0) {
		t.Errorf("the server is on %v", got)
	}
}

// A rekey that is confirmed while a move is validated leaves both of its ids to the new
// path: on the old one the second would have to go along in the switch.
func TestRekeyDuringMove(t *testing.T) {
	m := opened(t, 1)
	watched(m, "move")
	look := m.network
	m.c.Rekey(m.now, &m.c.out)
	m.flush(&m.c)
	m.run(m.rtt/2 + 1)
	m.network = func(f flight) []flight {
		if f.src == addrA && m.c.Info().Epoch == 1 {
			return nil // lost: the packet that shows the server that the client has the keys
		}
		return look(f)
	}
	m.run(m.rtt/2 + 1)
	if c, s := m.c.Info(), m.s.Info(); c.Epoch != 1 || c.RemoteSeq != 3 || !s.Rekeying || s.RemoteSeq != 0 {
		t.Fatalf("%+v\n%+v", c, s)
	}
	m.network = look
	m.move(2, network(0))
	m.run(time.Second)
	if s := m.s.Info(); s.Path.Remote != network(0) || s.Counts[NoSpareID] != 0 || s.RemoteSeq != 3 {
		t.Errorf("%+v", s)
	}
}

// An id that another network has seen, in a race that nobody won, is none to change to
// where nothing moves.
func TestRotationAfterLostRace(t *testing.T) {
	m := opened(t, 1)
	m.c.ids.fail, m.s.ids.fail = true, true
	m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{2: network(0), 3: network(1)})
	delete(m.socket, 2)
	delete(m.socket, 3)
	m.run(3 * time.Second)
	m.c.wants(t, "race", EventRaceLost, 1)
	watched(m, "flood")
	m.s.Leave(m.now, m.s.pathLocal.ID, &m.s.out)
	m.flush(&m.s)
	for range 10 {
		m.run(time.Second)
		m.serverSend("down")
		m.clientSend("up")
	}
	if got := m.c.Info().RemoteSeq; got != 0 {
		t.Errorf("the client sends on id %d, which another network has seen", got)
	}
}
