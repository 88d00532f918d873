// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

var allServers = []netip.AddrPort{serverAddr, serverAddr2, serverAddr3}

// told returns a simulation whose client knows all of the server's addresses.
func told(t testing.TB) *sim {
	m := opened(t, 1)
	m.run(time.Second)
	m.server = allServers
	if err := m.s.SetAddrs(m.now, allServers, &m.s.out); err != nil {
		t.Fatal(err)
	}
	m.flush(&m.s)
	m.run(time.Second)
	if !slices.Equal(m.c.ServerAddrs(), allServers) || m.c.count(EventAddrs) != 1 {
		t.Fatalf("client knows %v", m.c.ServerAddrs())
	}
	m.forget()
	return m
}

func (m *sim) moveLocal(to netip.AddrPort) {
	m.t.Helper()
	if err := m.s.MoveLocal(m.now, to, nil, &m.s.out); err != nil {
		m.t.Fatal(err)
	}
	m.flush(&m.s)
}

// ADDRS arrives whatever is lost, and the newest list wins.
func TestSetAddrs(t *testing.T) {
	for seed := range uint64(50) {
		m := opened(t, seed)
		m.network = func(f flight) []flight {
			if m.rng.IntN(2) == 0 {
				return nil
			}
			return []flight{f}
		}
		m.s.SetAddrs(m.now, allServers, &m.s.out)
		m.flush(&m.s)
		m.run(time.Duration(m.rng.IntN(300)) * time.Millisecond)
		m.s.SetAddrs(m.now, allServers[1:], &m.s.out)
		m.flush(&m.s)
		m.run(20 * time.Second)
		m.network = nil
		m.clientSend("x")
		m.run(10 * time.Second)
		if !slices.Equal(m.c.ServerAddrs(), allServers[1:]) || m.s.ctl.addrs != nil {
			t.Fatalf("seed %d: %v", seed, m.c.ServerAddrs())
		}
	}
	m := opened(t, 1)
	for name, err := range map[string]error{
		"nine addresses": m.s.SetAddrs(m.now, make([]netip.AddrPort, wire.MaxAddrs+1), &m.s.out),
		"an invalid one": m.s.SetAddrs(m.now, make([]netip.AddrPort, 1), &m.s.out),
	} {
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.c.SetAddrs(m.now, allServers, &m.c.out); err != ErrNotServer {
		t.Error(err)
	}
	if err := newSim(t, 1).s.SetAddrs(0, allServers, &m.s.out); err != ErrNotConfirmed {
		t.Error(err)
	}
	if m.s.Known() != nil {
		t.Error("a server knows servers")
	}
	// Those that are told no more are known no more; others are.
	m = told(t)
	m.c.Learn(addrX)
	m.s.SetAddrs(m.now, allServers[:2], &m.s.out)
	m.flush(&m.s)
	m.run(time.Second)
	if m.c.knows(serverAddr3) || !m.c.knows(serverAddr2) || !m.c.knows(addrX) {
		t.Errorf("knows %v", m.c.Known())
	}
}

// A server moves to another of its addresses: the client follows within one RTT
// of its first packet, on fresh ids, and the old address answers that it is left.
func TestMoveLocal(t *testing.T) {
	m := told(t)
	before := []wire.ID{m.c.rid.ID, m.s.rid.ID}
	m.moveLocal(serverAddr2)
	m.serverSend("from here")
	m.run(m.rtt/2 + 1)
	if !slices.Contains(m.c.got, "from here") {
		t.Error("data from the new address was not delivered")
	}
	m.run(2 * m.rtt)
	if m.c.Path().Remote != serverAddr2 || m.s.Path().Local != serverAddr2 {
		t.Fatalf("client sends to %v, server from %v", m.c.Path(), m.s.Path())
	}
	m.s.wants(t, "moved", EventMoveStarted, 1)
	m.s.wants(t, "moved", EventMoveCommitted, 1)
	m.c.wants(t, "moved", EventMoveCommitted, 1)
	if took := m.s.last(EventMoveCommitted).Took; took != m.rtt {
		t.Errorf("the server's move took %v with a round trip of %v", took, m.rtt)
	}
	if m.c.rid.ID == before[0] || m.s.rid.ID == before[1] {
		t.Error("an id went along")
	}
	m.talk(10 * time.Second)
	m.c.wants(t, "later", EventMoveReverted, 0)
	m.s.wants(t, "later", EventMoveRefused, 0)
	if m.s.localMove != nil || m.s.Info().Moves.Refused != 0 {
		t.Error("the move is not over")
	}
	// And back.
	m.moveLocal(serverAddr)
	m.talk(3 * time.Second)
	if m.c.Path().Remote != serverAddr || m.s.Path().Local != serverAddr {
		t.Errorf("client sends to %v, server from %v", m.c.Path(), m.s.Path())
	}
	if err := m.s.MoveLocal(m.now, serverAddr, nil, &m.s.out); err != ErrSamePath {
		t.Error(err)
	}
	if err := m.c.MoveLocal(m.now, serverAddr2, nil, &m.c.out); err != ErrNotServer {
		t.Error(err)
	}
	if err := newSim(t, 1).s.MoveLocal(0, serverAddr2, nil, &m.s.out); err != ErrNotConfirmed {
		t.Error(err)
	}
}

// At the address that it left a server only says so, on the id last used there;
// what else is asked there is answered from the new one.
func TestLeftAddress(t *testing.T) {
	m := told(t)
	old := m.s.rid
	m.moveLocal(serverAddr2)
	var sent []Packet
	ask := func(frames []byte) {
		m.s.Receive(m.now, Path{Remote: addrA, Local: serverAddr}, m.craft(&m.c, frames), &m.s.out)
		sent = nil
		for _, p := range m.s.out.Packets {
			sent = append(sent, Packet{p.Path, slices.Clone(p.Data)})
		}
		m.s.out.Reset()
	}
	check := func(what string, local netip.AddrPort, rid *remoteID, frame wire.FrameType) {
		t.Helper()
		if len(sent) != 1 {
			t.Fatalf("%s: %d packets", what, len(sent))
		}
		frames := m.framesTo([]flight{{dst: addrA, data: sent[0].Data}}, addrA)
		_, id, _ := wire.ParseData(sent[0].Data)
		if sent[0].Path.Local != local || id != rid.ID || frames[0].Type != frame {
			t.Errorf("%s: from %v, %v", what, sent[0].Path.Local, frames[0].Type)
		}
	}
	for _, when := range []string{"while it moves", "after it moved"} {
		ask(wire.AppendChallenge(nil, wire.Cookie{1}))
		check(when+", CHALLENGE", serverAddr, old, wire.FrameNotPreferred)
		if when == "while it moves" { // later it would be the client's newest wish
			ask(pingFrame(7))
			check(when+", PING", serverAddr2, m.s.rid, wire.FramePong)
		}
		m.s.forgetRemote()
		m.run(m.rtt * 2)
		if m.s.localMove == nil || m.s.localMove.pending {
			t.Fatal("the move is not done")
		}
	}
	m.run(5 * time.Second)
	if m.s.localMove != nil {
		t.Error("the move is not over")
	}
	m.talk(2 * time.Second)
}

// The old address may be gone by then.
func TestMoveLocalAway(t *testing.T) {
	m := told(t)
	m.server = allServers[2:]
	m.moveLocal(serverAddr3)
	m.run(2 * m.rtt)
	if m.c.Path().Remote != serverAddr3 {
		t.Fatalf("client sends to %v", m.c.Path())
	}
	m.talk(5 * time.Second)
}

// An address that is new to the client comes along with the move to it, though the
// old one is gone: it follows at once, and nothing was sent on the old id.
func TestMoveLocalTells(t *testing.T) {
	for _, told := range []bool{true, false} {
		m := opened(t, 1)
		m.run(time.Second)
		addrs := []netip.AddrPort{serverAddr2, serverAddr3}
		if !told {
			addrs = addrs[:1]
		}
		m.server = allServers[2:]
		old := m.s.rid.ID
		m.network = func(f flight) []flight {
			if _, id, _ := wire.ParseData(f.data); f.src == serverAddr3 && id == old {
				t.Error("the old id is seen at the new address")
			}
			return []flight{f}
		}
		if err := m.s.MoveLocal(m.now, serverAddr3, addrs, &m.s.out); err != nil {
			t.Fatal(err)
		}
		m.flush(&m.s)
		m.run(2*m.rtt + 1)
		if follows := m.c.Path().Remote == serverAddr3; follows != told {
			t.Errorf("told: %v, and the client sends to %v", told, m.c.Path())
		}
		if got := m.c.ServerAddrs(); !slices.Equal(got, addrs) {
			t.Errorf("the client knows %v", got)
		}
		if told {
			m.s.wants(t, "moved", EventMoveCommitted, 1)
			m.talk(5 * time.Second)
			if m.s.ctl.addrs != nil {
				t.Error("ADDRS is not acknowledged")
			}
		}
	}
	m := opened(t, 1)
	if err := m.s.MoveLocal(m.now, serverAddr2, make([]netip.AddrPort, 1), &m.s.out); !errors.Is(err, ErrConfig) || m.s.localMove != nil {
		t.Errorf("an invalid address: %v", err)
	}
}

// A client that does not know the address, or a network that lets nothing from it
// through: the server goes back.
func TestMoveLocalUnheard(t *testing.T) {
	for _, known := range []bool{true, false} {
		m := told(t)
		to := serverAddr2
		if !known {
			to = addrX
			m.server = append([]netip.AddrPort{addrX}, allServers...)
		}
		m.network = func(f flight) []flight {
			if known && f.src == serverAddr2 {
				return nil // a NAT
			}
			return []flight{f}
		}
		m.moveLocal(to)
		for range 20 {
			m.clientSend("x")
			m.run(250 * time.Millisecond)
		}
		m.s.wants(t, "unheard", EventMoveRefused, 1)
		m.s.wants(t, "unheard", EventMoveCommitted, 0)
		if ev := m.s.event(EventMoveRefused); ev.Reason != RefusedUnheard || ev.Path.Local != to {
			t.Errorf("%+v", ev)
		}
		if m.s.Path().Local != serverAddr || m.c.Path().Remote != serverAddr {
			t.Errorf("client sends to %v, server from %v", m.c.Path(), m.s.Path())
		}
		if !known && m.c.Info().Counts[UnknownServer] == 0 {
			t.Error("not counted")
		}
		m.talk(3 * time.Second)
	}
}

// Both ends move within one RTT: as long as one of the addresses that they knew
// lives, or the client races, they find each other.
func TestBothMove(t *testing.T) {
	for _, gone := range []bool{false, true} {
		m := told(t)
		m.moveLocal(serverAddr2)
		m.run(m.rtt / 4)
		if gone {
			m.server = allServers[1:]
		}
		m.move(2, addrB)
		delete(m.socket, 1)
		m.run(4*initialPTO + m.rtt) // of the new path nothing is known yet
		if gone {
			if m.c.count(EventSilent) == 0 {
				t.Fatalf("no silence: %v", m.c.events)
			}
			m.race(m.c.Known(), map[uint32]netip.AddrPort{3: addrC})
			m.run(time.Second)
		}
		m.talk(3 * time.Second)
		if gone && (m.c.Path().Remote == serverAddr || m.s.Path().Remote != addrC) {
			t.Errorf("client on %v, server on %v", m.c.Path(), m.s.Path())
		}
	}
}

// A forwarder cannot bring the client to an address that answers for nothing: the
// server's other address, shown by a relay while the server has not moved.
func TestForwardedFromKnownAddress(t *testing.T) {
	m := told(t)
	m.network = func(f flight) []flight {
		if !f.toServer {
			g := f
			g.src, g.at = serverAddr2, f.at-1 // faster than the original
			return []flight{g, f}
		}
		return []flight{f}
	}
	for range 10 {
		m.clientSend("up")
		m.serverSend("down")
		m.run(100 * time.Millisecond)
	}
	m.network = nil
	m.run(time.Second)
	m.talk(2 * time.Second)
	if m.s.Path().Remote != addrA || m.c.Info().Counts[ProtocolError] != 0 {
		t.Errorf("client on %v, server on %v", m.c.Path(), m.s.Path())
	}
}
