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

func TestRebinding(t *testing.T) {
	m := opened(t, 6)
	m.rebind(addrB)
	m.clientSend("moved")
	m.run(m.rtt * 2)
	m.s.wants(t, "rebinding", EventMoveCommitted, 1)
	if took := m.s.last(EventMoveCommitted).Took; took != m.rtt {
		t.Errorf("the move took %v with a round trip of %v", took, m.rtt)
	}
	if m.slots[m.s.Info().LocalID] != addrB || m.s.Path().Remote != addrB {
		t.Errorf("path %v, slots %v", m.s.Path(), m.slots)
	}
	if m.s.Info().LocalSeq != 0 || m.s.Info().RemoteSeq != 0 {
		t.Error("a rebinding changed ids")
	}
	m.run(time.Second)
	if m.c.Info().Observed != addrB {
		t.Errorf("observed %v", m.c.Info().Observed)
	}
	m.serverSend("hello")
	m.run(time.Second)
	if len(m.c.got) != 1 {
		t.Error("nothing came")
	}
}

// A client says that it has moved until that is answered: the PONG of an earlier PING
// and the packets that still come to the socket that it left say nothing about it.
func TestMoveAnnouncedAgain(t *testing.T) {
	m := opened(t, 1)
	m.clientSend("a session of use")
	m.run(time.Second)
	m.c.Ping(m.now, &m.c.out)
	m.flush(&m.c)
	m.network = func(f flight) []flight {
		if f.src == addrB {
			return nil // lost: the packet that announces the move
		}
		return []flight{f}
	}
	m.move(2, addrB)
	m.network = nil
	m.run(initialPTO + 2*m.rtt)
	if got := m.s.Path().Remote; got != addrB {
		t.Errorf("the server is on %v", got)
	}
}

// A network that takes nothing to the server is noticed, though what the server sends to
// the one before still arrives.
func TestMoveToSilence(t *testing.T) {
	m := opened(t, 1)
	m.clientSend("a session of use")
	m.run(time.Second)
	m.network = func(f flight) []flight {
		if f.src == addrB {
			return nil
		}
		return []flight{f}
	}
	m.move(2, addrB)
	for range 50 {
		m.serverSend("down")
		m.run(100 * time.Millisecond)
	}
	m.c.wants(t, "nothing answers", EventSilent, 1)
}

// A deliberate move: new ids both ways with counters from 0, and the old path
// says NOT_PREFERRED.
func TestMove(t *testing.T) {
	m := opened(t, 7)
	var onA, onB [][]byte
	m.network = func(f flight) []flight {
		switch {
		case f.src == addrA || f.dst == addrA:
			onA = append(onA, f.data)
		default:
			onB = append(onB, f.data)
		}
		return []flight{f}
	}
	m.clientSend("before")
	m.serverSend("before")
	m.run(time.Second)
	m.move(2, addrB)
	m.clientSend("first on the new path")
	m.run(time.Second)
	m.serverSend("answer")
	m.run(time.Second)
	m.c.wants(t, "move", EventMoveStarted, 1)
	m.c.wants(t, "move", EventMoveCommitted, 1)
	m.s.wants(t, "move", EventMoveCommitted, 1)
	m.s.wants(t, "move", EventMoveReverted, 0)
	ci, si := m.c.Info(), m.s.Info()
	if ci.RemoteSeq != 1 || si.RemoteSeq != 1 || si.LocalSeq != 1 || ci.LocalSeq != 1 {
		t.Errorf("ids %+v %+v", ci, si)
	}
	if si.Path.Remote != addrB || m.slots[si.LocalID] != addrB {
		t.Errorf("server on %v", si.Path)
	}
	if got := m.c.got[len(m.c.got)-1]; got != "answer" {
		t.Errorf("got %q", m.c.got)
	}
	seen := map[string]bool{}
	for _, p := range onA {
		for i := 8; i+8 <= len(p); i++ {
			seen[string(p[i:i+8])] = true
		}
	}
	for _, p := range onB {
		for i := 8; i+8 <= len(p); i++ {
			if seen[string(p[i:i+8])] {
				t.Fatalf("the two networks share %x", p[i:i+8])
			}
		}
	}
	// The old ids are retired and replaced, the old socket given free.
	m.run(10 * time.Second)
	m.c.wants(t, "move", EventPathReleased, 1)
	if ci, si := m.c.Info(), m.s.Info(); ci.LocalIDs != 3 || si.LocalIDs != 3 || ci.SpareRemoteIDs != 2 || si.SpareRemoteIDs != 2 {
		t.Errorf("live %d and %d, spare %d and %d", ci.LocalIDs, si.LocalIDs, ci.SpareRemoteIDs, si.SpareRemoteIDs)
	}
	if len(m.c.remote) != 3 || len(m.s.remote) != 3 {
		t.Errorf("held %d and %d ids of the peer", len(m.c.remote), len(m.s.remote))
	}
}

// Nothing that was measured on the old path holds on the new one, and a PONG
// that comes late says nothing of it.
func TestMoveForgetsRTT(t *testing.T) {
	m := opened(t, 7)
	if err := m.c.Ping(m.now, &m.c.out); err != nil {
		t.Fatal(err)
	}
	m.flush(&m.c)
	m.run(m.rtt/2 + 1) // the PONG is on its way
	m.network = func(flight) []flight { return nil }
	m.move(2, addrB)
	m.run(m.rtt)
	if i := m.c.Info(); i.SRTT != 0 || i.PTO != initialPTO {
		t.Errorf("srtt %v, PTO %v after a move", i.SRTT, i.PTO)
	}
	if m.c.Info().Counts[PongUnknown] != 0 {
		t.Error("the PONG was not known")
	}
}

// While the old network is gone the move does not wait for it.
func TestMoveWithoutOldPath(t *testing.T) {
	m := opened(t, 7)
	delete(m.socket, 1)
	m.move(2, addrB)
	start := m.now
	m.run(2 * time.Second)
	if got := m.s.Info().Moves.LastCommitted - start; got != m.rtt*3/2 {
		t.Errorf("committed after %v, want 1.5 RTT", got)
	}
}

// A train of moves faster than the round trip ends at the last place.
func TestTrainOfMoves(t *testing.T) {
	for _, rebind := range []bool{false, true} {
		m := opened(t, 8)
		places := []netip.AddrPort{addrB, addrC, addrX, addrB, addrA, addrC, addrB}
		for i, a := range places {
			if rebind {
				m.rebind(a)
				m.clientSend("here")
			} else {
				m.move(uint32(2+i), a)
			}
			m.run(m.rtt / 8)
		}
		if rebind {
			m.clientSend("last")
		}
		m.run(m.rtt * 5 / 2)
		if got := m.s.Path().Remote; got != addrB {
			t.Errorf("rebind %v: ended at %v", rebind, got)
		}
		m.serverSend("found you")
		m.run(time.Second)
		if len(m.c.got) == 0 {
			t.Errorf("rebind %v: nothing came", rebind)
		}
		m.run(time.Minute / 2)
		if n := m.s.Info().LocalIDs; n != 3 {
			t.Errorf("rebind %v: %d live ids", rebind, n)
		}
	}
}

// On a path that it has left a client sends only probing packets, on the id last
// used there; what else the server asks there is answered on the current path.
func TestLeftPath(t *testing.T) {
	m := opened(t, 11)
	oldID := m.c.rid.ID
	m.network = func(f flight) []flight { return nil }
	m.move(2, addrB)
	receive := func(socket uint32, frames []byte) []Packet {
		m.c.Receive(m.now, Path{Socket: socket, Remote: serverAddr}, m.craft(&m.s, frames), &m.c.out)
		sent := slices.Clone(m.c.out.Packets)
		for i := range sent {
			sent[i].Data = slices.Clone(sent[i].Data)
		}
		m.flush(&m.c)
		return sent
	}
	frames := func(p Packet) (id wire.ID, types []wire.FrameType) {
		counter, id, _ := wire.ParseData(p.Data)
		plain, ok := m.s.open(m.s.findLocal(&id), counter, p.Data, nil, new(Output))
		if !ok {
			t.Fatal("does not open")
		}
		var f wire.Frame
		for r := wire.NewFrameReader(plain); r.Next(&f); {
			types = append(types, f.Type)
		}
		return id, types
	}
	sent := receive(1, wire.AppendChallenge(pingFrame(1), wire.Cookie{7}))
	if len(sent) != 2 {
		t.Fatalf("%d packets", len(sent))
	}
	for _, p := range sent {
		id, types := frames(p)
		switch p.Path.Socket {
		case 1:
			if id != oldID || !slices.Equal(types, []wire.FrameType{wire.FrameNotPreferred}) {
				t.Errorf("on the left path: %v on id %v", types, id)
			}
		case 2:
			if id == oldID || !slices.Equal(types, []wire.FrameType{wire.FramePong}) {
				t.Errorf("on the current path: %v on id %v", types, id)
			}
		}
	}
	if sent := receive(2, wire.AppendChallenge(nil, wire.Cookie{8})); len(sent) != 1 {
		t.Errorf("%d answers on the current path", len(sent))
	} else if _, types := frames(sent[0]); !slices.Equal(types, []wire.FrameType{wire.FrameResponse}) {
		t.Errorf("on the current path: %v", types)
	}
	if sent := receive(9, wire.AppendChallenge(nil, wire.Cookie{9})); len(sent) != 0 || m.c.Info().Counts[NoAnswerSocket] != 1 {
		t.Errorf("%d answers on a socket never used", len(sent))
	}
	if i := m.c.Info(); i.NumCandidates != 0 || i.Path.Socket != 2 {
		t.Error("packets on the left socket moved the client")
	}
	m.run(3*minDeadline + 1)
	if sent := receive(1, wire.AppendChallenge(nil, wire.Cookie{7})); len(sent) != 0 {
		t.Error("the released path still answers")
	}
}

func TestMoveErrors(t *testing.T) {
	m := newSim(t, 1)
	to := Path{Socket: 2, Remote: serverAddr}
	if err := m.c.Move(0, to, &m.c.out); !errors.Is(err, ErrNotConfirmed) {
		t.Error(err)
	}
	if err := m.s.Move(0, to, &m.s.out); !errors.Is(err, ErrNotClient) {
		t.Error(err)
	}
	m.run(time.Second)
	if err := m.c.Move(m.now, m.c.Path(), &m.c.out); !errors.Is(err, ErrSamePath) {
		t.Error(err)
	}
	m.c.Close(m.now, wire.CloseDone, "", &m.c.out)
	if err := m.c.Move(m.now, to, &m.c.out); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
