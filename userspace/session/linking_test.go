// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
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
		left += changesNetworks(t, seed)
	}
	if left < seeds {
		t.Errorf("clients left an id %d times in %d runs", left, seeds)
	}
}

// changesNetworks has a watched client change its network eight times. It returns how
// often it left an id that was flooded.
func changesNetworks(t *testing.T, seed uint64) (left uint64) {
	m := opened(t, seed)
	m.rtt = time.Duration(5+m.rng.IntN(300)) * time.Millisecond
	m.clientSend("a session of use")
	m.run(3 * time.Second)
	watched(m, seed)
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
