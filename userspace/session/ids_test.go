// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A client that paused goes on with fresh ids both ways, on the same path.
func TestIdleRotation(t *testing.T) {
	m := opened(t, 1)
	m.clientSend("a")
	m.run(idleRotate + time.Second)
	m.clientSend("b")
	m.run(time.Second)
	m.serverSend("c")
	m.run(time.Second)
	ci, si := m.c.Info(), m.s.Info()
	if ci.RemoteSeq != 1 || si.RemoteSeq != 1 || si.LocalSeq != 1 || ci.LocalSeq != 1 {
		t.Errorf("client sends on %d, server on %d", ci.RemoteSeq, si.RemoteSeq)
	}
	if m.slots[si.LocalID] != addrA {
		t.Error("the slot of the new id has no address: its packets stay on the candidate lane")
	}
	if si.Moves.Started != 0 {
		t.Error("a rotation was taken for a move")
	}
	m.run(10 * time.Second)
	if ci, si := m.c.Info(), m.s.Info(); ci.LocalIDs != 3 || si.LocalIDs != 3 {
		t.Errorf("%d and %d ids live: the old ones are not retired", ci.LocalIDs, si.LocalIDs)
	}
}

// What counts is the time without a datagram, either way: not that without a
// packet.
func TestIdleRotationIsOfDatagrams(t *testing.T) {
	for name, tt := range map[string]struct {
		every time.Duration
		do    func(m *sim)
		want  uint32 // the id that the client's datagram goes on after a minute
	}{
		"keepalives only":    {0, nil, 1},
		"PINGs only":         {20 * time.Second, func(m *sim) { m.c.Ping(m.now, &m.c.out); m.flush(&m.c) }, 1},
		"datagrams received": {20 * time.Second, func(m *sim) { m.serverSend("x") }, 0},
		"datagrams sent":     {20 * time.Second, func(m *sim) { m.clientSend("x") }, 0},
	} {
		m := opened(t, 1)
		m.c.options.keepalive = 25 * time.Second
		m.clientSend("a")
		if tt.do == nil {
			m.run(time.Minute)
		} else {
			for range 3 {
				m.run(tt.every)
				tt.do(m)
			}
		}
		m.run(time.Second)
		if got := m.c.Info().RemoteSeq; got != 0 {
			t.Errorf("%s: on id %d before there was a datagram to send", name, got)
		}
		m.clientSend("b")
		if got := m.c.Info().RemoteSeq; got != tt.want {
			t.Errorf("%s: the next datagram went on id %d, want %d", name, got, tt.want)
		}
	}
}

// Rotations end: an end that follows must not be followed.
func TestRotationDoesNotPingPong(t *testing.T) {
	m := opened(t, 1)
	for range 20 {
		m.s.rotate() // as before a limit
		m.serverSend("on a new id")
		m.run(3 * time.Second)
	}
	ci, si := m.c.Info(), m.s.Info()
	if si.RemoteSeq != 20 || ci.RemoteSeq != 20 {
		t.Errorf("server on %d, client on %d, want 20 and 20", si.RemoteSeq, ci.RemoteSeq)
	}
}

// An id that a path was given and that carried nothing costs those below it nothing, if
// the session goes on with a lower one: the issuer counts them as unused for good.
func TestUnusedIDsStay(t *testing.T) {
	m := opened(t, 1)
	first := m.s.rid
	m.s.rotate()
	m.s.rotate()
	m.s.rid = first
	m.s.forgetRemote()
	if i := m.s.Info(); i.SpareRemoteIDs != 2 {
		t.Errorf("%d spare ids, the client counts %d", i.SpareRemoteIDs, m.c.Info().SpareLocalIDs)
	}
}

// A superseded id is retired after 3 PTO of silence, at least 1 s; packets on it
// put that off, probing packets do not.
func TestRetirement(t *testing.T) {
	retired := func(m *sim) bool { return m.s.local[0].Seq != 0 }
	var old *remoteID
	setup := func() *sim {
		m := opened(t, 1)
		old = m.c.rid
		m.network = func(f flight) []flight {
			if f.toServer {
				return nil
			}
			return []flight{f}
		}
		// The newer id carries a packet; old ones still come.
		m.inject(addrA, m.craftOn(&m.c, m.c.spare(m.c.path), pingFrame(1)))
		if m.s.retireAfter() != minRetire {
			t.Fatalf("3 PTO are %v: not the case that is tested", m.s.retireAfter())
		}
		return m
	}
	m := setup()
	m.run(minRetire - 1)
	if retired(m) {
		t.Error("retired too early")
	}
	m.run(2)
	if !retired(m) {
		t.Error("not retired after 1 s of silence")
	}
	if r := m.inject(addrA, m.craftOn(&m.c, old, pingFrame(1))); r != UnknownID {
		t.Errorf("a packet on a retired id: %v", r)
	}

	m = setup()
	m.run(minRetire / 2)
	m.inject(addrA, m.craftOn(&m.c, old, wire.AppendDatagram(nil, []byte("late"))))
	m.run(minRetire - 1)
	if retired(m) {
		t.Error("retired although it was used")
	}
	m.run(2)
	if !retired(m) {
		t.Error("not retired")
	}

	m = setup()
	m.run(minRetire / 2)
	m.inject(addrA, m.craftOn(&m.c, old, wire.AppendChallenge(nil, wire.Cookie{})))
	m.run(minRetire/2 + 1)
	if !retired(m) {
		t.Error("a probing packet put the retirement off")
	}

	m = opened(t, 1)
	m.inject(addrA, m.craftOn(&m.c, m.c.spare(m.c.path), wire.AppendChallenge(nil, wire.Cookie{})))
	m.run(5 * time.Second)
	if retired(m) {
		t.Error("a probing packet on a newer id retired the older")
	}
}

// 2 unused ids are kept at the peer, within 8 live ones.
func TestSpareIDs(t *testing.T) {
	m := opened(t, 1)
	for i := range 30 {
		m.move(uint32(2+i), []netip.AddrPort{addrB, addrA}[i%2])
		m.run(10 * time.Millisecond)
	}
	if m.s.ids.most > maxLive || m.c.ids.most > maxLive {
		t.Errorf("up to %d and %d ids live", m.c.ids.most, m.s.ids.most)
	}
	m.run(10 * time.Second)
	if ci, si := m.c.Info(), m.s.Info(); ci.SpareRemoteIDs != 2 || si.SpareRemoteIDs != 2 {
		t.Errorf("spare %d and %d", ci.SpareRemoteIDs, si.SpareRemoteIDs)
	}
}

// Without a spare id the session roams on with the one it has.
func TestRoamWithoutSpareIDs(t *testing.T) {
	m := opened(t, 1)
	m.s.ids.fail, m.c.ids.fail = true, true
	m.run(2 * time.Second)
	for i := range 200 {
		addr := addrB
		if i%2 == 1 {
			addr = addrA
		}
		m.move(uint32(2+i), addr)
		m.run(100 * time.Millisecond)
		if got := m.s.Path().Remote; got != addr {
			t.Fatalf("move %d: server on %v", i, got)
		}
	}
	if m.c.Info().Counts[NoSpareID] == 0 || m.s.Info().Counts[IssueFailed] == 0 {
		t.Error("not counted")
	}
	m.s.ids.fail, m.c.ids.fail = false, false
	m.run(2 * issueAgain)
	m.clientSend("x")
	m.serverSend("x")
	m.run(time.Second)
	if ci, si := m.c.Info(), m.s.Info(); ci.SpareRemoteIDs != 2 || si.SpareRemoteIDs != 2 {
		t.Errorf("spare ids %d and %d after the shortage", ci.SpareRemoteIDs, si.SpareRemoteIDs)
	}
}

// A source of ids that failed is asked again 10 s later, not by every packet.
func TestIssueAgain(t *testing.T) {
	m := opened(t, 1)
	m.run(5 * time.Second)
	m.s.ids.fail = true
	m.inject(addrA, m.craftOn(&m.c, m.c.spare(m.c.path), pingFrame(1)))
	failed := func() uint64 { return m.s.Info().Counts[IssueFailed] }
	for range 9 {
		m.run(issueAgain / 10)
		m.inject(addrA, m.craft(&m.c, pingFrame(1)))
	}
	if failed() != 1 {
		t.Errorf("asked %d times within %v", failed(), issueAgain)
	}
	m.run(issueAgain / 10)
	m.inject(addrA, m.craft(&m.c, pingFrame(1)))
	if failed() != 2 {
		t.Errorf("asked %d times, want once more", failed())
	}
}

func TestNewIDErrors(t *testing.T) {
	var id wire.ID
	var reset wire.Token
	newID := wire.AppendNewID
	tests := []struct {
		name   string
		frames func(m *sim) []byte
		reason string // empty: no error
	}{
		{"a repeat", func(m *sim) []byte {
			r := m.s.remote[1]
			return newID(nil, r.Seq, r.ID, r.RemoteID.Reset)
		}, ""},
		{"the next", func(m *sim) []byte { return newID(nil, 3, id, reset) }, ""},
		{"several", func(m *sim) []byte { return newID(newID(nil, 3, id, reset), 4, id, reset) }, ""},
		{"another id", func(m *sim) []byte { return newID(nil, 1, id, m.s.remote[1].RemoteID.Reset) }, "differs"},
		{"another token", func(m *sim) []byte { return newID(nil, 1, m.s.remote[1].ID, reset) }, "differs"},
		{"a gap", func(m *sim) []byte { return newID(nil, 4, id, reset) }, "gap"},
		{"far ahead", func(m *sim) []byte { return newID(nil, 1<<32-1, id, reset) }, "gap"},
		{"too many", func(m *sim) (b []byte) {
			for seq := range uint32(7) {
				b = newID(b, 3+seq, id, reset)
			}
			return b
		}, "more than 8"},
	}
	for _, tt := range tests {
		m := opened(t, 1)
		r := m.inject(addrA, m.craft(&m.c, tt.frames(m)))
		if tt.reason == "" {
			if r != Probed || m.s.State() != StateOpen {
				t.Errorf("%s: %v, %v", tt.name, r, m.s.State())
			}
			continue
		}
		if r != ProtocolError || m.s.farewell.code != wire.CloseProtocolError || !strings.Contains(m.s.farewell.text, tt.reason) {
			t.Errorf("%s: %v, closed with %v %q", tt.name, r, m.s.farewell.code, m.s.farewell.text)
		}
		m.run(time.Second)
		if m.c.count(EventClosed) != 1 {
			t.Errorf("%s: the peer was not told", tt.name)
		}
	}
}

// Counters from 2^28 on are dropped before they are decrypted.
func TestReceiveLimit(t *testing.T) {
	m := opened(t, 1)
	for _, counter := range []uint64{wire.MaxCounter, 1 << 40, 1<<56 - 1} {
		pkt := m.craft(&m.c, pingFrame(1))
		wire.PutDataHeader(pkt, counter, m.s.pathLocal.ID)
		if r := m.inject(addrA, pkt); r != CounterLimit {
			t.Errorf("counter %d: %v", counter, r)
		}
	}
	m.c.rid.counter = wire.MaxCounter - 1
	m.c.state = StateClosing // the last ones are kept for that
	if r := m.inject(addrA, m.craft(&m.c, pingFrame(1))); r != Delivered {
		t.Errorf("the last counter: %v", r)
	}
}

// A sender moves to its next id before the limit, and closes with code 6 if
// there is none.
func TestSendLimit(t *testing.T) {
	limits := map[string]func(r *remoteID){
		"packets": func(r *remoteID) { r.counter = wire.MaxCounter - 20 },
		"bytes":   func(r *remoteID) { r.bytes = wire.MaxIDBytes - 20*wire.MaxPacket },
	}
	for name, near := range limits {
		m := opened(t, 1)
		near(m.c.rid)
		if err := m.clientSend("x"); err != nil || m.c.Info().RemoteSeq != 1 {
			t.Errorf("%s: %v, on id %d", name, err, m.c.Info().RemoteSeq)
		}
		m = opened(t, 1)
		m.s.ids.fail = true
		m.c.remote = m.c.remote[:1]
		m.forget()
		near(m.c.rid)
		large := strings.Repeat("x", 4000)
		var err error
		for range 1000 {
			m.clientSend("x")
			if err = m.clientSend(large); err != nil {
				break
			}
		}
		if name == "bytes" && err == nil { // many packets fit 20 maximal ones
			m.c.rid.bytes = wire.MaxIDBytes - closeReserve*wire.MaxPacket
			err = m.clientSend(large)
		}
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
		m.run(time.Second)
		if len(m.s.events) != 1 || m.s.events[0].Code != wire.CloseLimit {
			t.Errorf("%s: server saw %+v", name, m.s.events)
		}
		if m.c.rid.counter > wire.MaxCounter || m.c.rid.bytes > wire.MaxIDBytes {
			t.Errorf("%s: limit passed", name)
		}
	}
}

// PONGs alone, which a peer can ask for without end, stop at the limit too.
func TestPongLimit(t *testing.T) {
	m := opened(t, 1)
	m.s.remote = m.s.remote[:1]
	m.s.rid.counter = wire.MaxCounter - closeReserve - 2
	m.network = func(f flight) []flight { return nil }
	for i := range 100 {
		m.inject(addrA, m.craft(&m.c, pingFrame(uint64(i))))
	}
	if m.s.farewell.code != wire.CloseLimit || m.s.rid.counter > wire.MaxCounter {
		t.Errorf("%v, code %v, counter %d", m.s.State(), m.s.farewell.code, m.s.rid.counter)
	}
}
