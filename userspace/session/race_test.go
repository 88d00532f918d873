// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// race opens a socket at each address and races from all of them to all servers.
func (m *sim) race(servers []netip.AddrPort, sockets map[uint32]netip.AddrPort) {
	m.t.Helper()
	var paths []Path
	for n, addr := range sockets {
		m.bind(n, addr)
		for _, a := range servers {
			paths = append(paths, Path{Socket: n, Remote: a})
		}
	}
	slices.SortFunc(paths, func(a, b Path) int { return int(a.Socket) - int(b.Socket) })
	if err := m.c.Race(m.now, paths, &m.c.out); err != nil {
		m.t.Fatal(err)
	}
	m.flush(&m.c)
}

func (e *end) event(k EventKind) (ev Event) {
	for _, ev = range e.events {
		if ev.Kind == k {
			return ev
		}
	}
	return Event{}
}

// The first path to answer wins; nothing moves before, and the first packet on it
// is the move.
func TestRace(t *testing.T) {
	m := opened(t, 1)
	m.run(time.Second)
	m.network = func(f flight) []flight {
		if f.src == addrA || f.dst == addrA {
			return nil // the current path is dead
		}
		if f.src == addrC || f.dst == addrC {
			f.at += 20 * time.Millisecond // and one of the others slower
		}
		return []flight{f}
	}
	start := m.now
	m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{2: addrC, 3: addrB})
	if ids := m.c.race.runners; ids[0].rid == ids[1].rid || ids[0].rid == m.c.rid || ids[1].rid == m.c.rid {
		t.Error("two sockets share an id")
	}
	m.run(m.rtt - 1)
	if got := m.c.Path().Socket; got != 1 {
		t.Fatalf("moved to %d before an answer", got)
	}
	if m.s.Path().Remote != addrA || m.s.Info().NumCandidates != 0 {
		t.Errorf("a probe moved the server: %+v", m.s.Info())
	}
	m.run(2)
	won := m.c.event(EventRaceWon)
	if m.c.Path().Socket != 3 || won.Path.Socket != 3 || won.From.Socket != 1 || m.c.Info().Racing != 0 {
		t.Fatalf("on %v: %v", m.c.Path(), m.c.events)
	}
	if got := m.c.event(EventPathReleased).Path.Socket; got != 2 {
		t.Errorf("released socket %d", got)
	}
	if m.c.rtt.srtt() != m.rtt {
		t.Errorf("the race measured %v", m.c.rtt.srtt())
	}
	m.serverSend("hello")
	m.run(m.rtt)
	// Half an RTT to the server, half for its first packet: one RTT after the move.
	if m.s.Path().Remote != addrA && !slices.Contains(m.c.got, "hello") {
		t.Error("nothing came")
	}
	m.run(m.rtt)
	if m.s.Path().Remote != addrB || m.c.count(EventMoveCommitted) != 1 {
		t.Fatalf("server on %v", m.s.Path())
	}
	t.Logf("moved after %v", m.now-start)
	m.talk(3 * time.Second)
	m.run(10 * time.Second)
	if i := m.c.Info(); i.LocalIDs > maxLive || i.SpareRemoteIDs < 1 {
		t.Errorf("%+v", i)
	}
}

// A race that nothing answers is lost after three questions on each path, and
// leaves the session where it is.
func TestRaceLost(t *testing.T) {
	m := opened(t, 1)
	m.run(time.Second)
	asked := map[netip.AddrPort]int{}
	m.network = func(f flight) []flight {
		asked[f.src]++
		return nil
	}
	start := m.now
	m.race([]netip.AddrPort{serverAddr, serverAddr2}, map[uint32]netip.AddrPort{2: addrB, 3: addrC})
	if m.c.Info().Racing != 4 {
		t.Errorf("%d paths race", m.c.Info().Racing)
	}
	patience := m.c.patience()
	m.run(4 * patience)
	m.c.wants(t, "too early", EventRaceLost, 0)
	m.run(1)
	m.c.wants(t, "nothing answered", EventRaceLost, 1)
	m.c.wants(t, "nothing answered", EventPathReleased, 2)
	m.c.wants(t, "nothing answered", EventRaceWon, 0)
	if asked[addrB] != 6 || asked[addrC] != 6 || m.c.Path().Socket != 1 {
		t.Errorf("asked %v in %v, on %v", asked, m.now-start, m.c.Path())
	}
	// The current path was alive all the time.
	m.network = nil
	m.talk(3 * time.Second)
	// The ids of the losers serve the next race.
	m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{4: addrB, 5: addrC})
	if r := m.c.race.runners; r[0].rid == m.c.rid || r[0].rid == r[1].rid {
		t.Error("a loser's id was not used again")
	}
	m.run(time.Second)
	if m.c.Path().Socket != 4 || m.s.Path().Remote != addrB {
		t.Errorf("client on %v, server on %v", m.c.Path(), m.s.Path())
	}
	m.talk(3 * time.Second)
}

// The current path may run too; if it is the first to answer, nothing moves.
func TestRaceWonByCurrent(t *testing.T) {
	m := opened(t, 1)
	m.network = func(f flight) []flight {
		if f.src == addrB || f.dst == addrB {
			f.at += time.Millisecond
		}
		return []flight{f}
	}
	id := m.c.rid.ID
	m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{1: addrA, 2: addrB})
	m.run(time.Second)
	m.c.wants(t, "current", EventRaceWon, 1)
	m.c.wants(t, "current", EventMoveStarted, 0)
	m.c.wants(t, "current", EventPathReleased, 1)
	if m.c.Path().Socket != 1 || m.c.rid.ID != id {
		t.Errorf("on %v", m.c.Path())
	}
	if got := m.c.Info().Counts[AnswerUnknown]; got != 1 {
		t.Errorf("the loser's late answer: %d", got)
	}
}

// An answer to one of several questions measures nothing.
func TestRaceRTT(t *testing.T) {
	m := opened(t, 1)
	m.run(time.Second)
	lost := 0
	m.network = func(f flight) []flight {
		if f.src == addrB && lost == 0 {
			lost++
			return nil
		}
		return []flight{f}
	}
	start := m.now
	m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{2: addrB})
	m.run(minSilence + m.rtt + 1)
	if m.c.Path().Socket != 2 || m.c.rtt.valid() {
		t.Errorf("after %v on %v: %+v", m.now-start, m.c.Path(), m.c.rtt)
	}
}

// One socket, several servers: one id, and the server that answers.
func TestRaceServers(t *testing.T) {
	m := opened(t, 1)
	m.run(time.Second)
	m.server = []netip.AddrPort{serverAddr3}
	m.clientSend("lost")
	m.run(5 * time.Second)
	m.c.wants(t, "the address is gone", EventSilent, 1)
	m.race([]netip.AddrPort{serverAddr, serverAddr2, serverAddr3}, map[uint32]netip.AddrPort{2: addrB})
	for _, r := range m.c.race.runners[1:] {
		if r.rid != m.c.race.runners[0].rid {
			t.Error("one socket has two ids")
		}
	}
	asked := m.c.race.runners[0].rid
	m.run(time.Second)
	if m.c.rid != asked {
		t.Errorf("asked on id %d, moved on id %d", asked.Seq, m.c.rid.Seq)
	}
	if m.c.Path().Remote != serverAddr3 || m.s.Path().Remote != addrB || m.s.Path().Local != serverAddr3 {
		t.Fatalf("client on %v, server on %v", m.c.Path(), m.s.Path())
	}
	if known := m.c.Known(); known[0] != serverAddr3 || len(known) != 3 {
		t.Errorf("knows %v", known)
	}
	m.talk(3 * time.Second)
	// From the socket in use to another of the server's addresses.
	m.server = []netip.AddrPort{serverAddr2}
	m.race([]netip.AddrPort{serverAddr2}, map[uint32]netip.AddrPort{2: addrB})
	m.run(time.Second)
	if m.c.Path() != (Path{Socket: 2, Remote: serverAddr2}) || m.s.Path().Local != serverAddr2 {
		t.Errorf("client on %v, server on %v", m.c.Path(), m.s.Path())
	}
	m.c.wants(t, "one socket", EventPathReleased, 1) // the first one's
	m.talk(3 * time.Second)
}

// More sockets than spare ids: the others ask on the current id.
func TestRaceWithoutSpares(t *testing.T) {
	m := opened(t, 1)
	m.run(time.Second)
	m.network = func(f flight) []flight {
		if f.src == addrA || f.dst == addrA {
			return nil
		}
		return []flight{f}
	}
	m.s.ids.fail = true
	far := netip.MustParseAddrPort("192.0.2.99:1000")
	m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{2: addrX, 3: addrX, 4: far})
	r := m.c.race.runners
	if r[2].rid != m.c.rid || r[0].rid == r[1].rid || m.c.Info().Counts[NoSpareID] == 0 {
		t.Error("ids are shared where they need not be")
	}
	delete(m.socket, 2)
	delete(m.socket, 3)
	m.run(2 * time.Second)
	if m.c.Path().Socket != 4 || m.s.Path().Remote != far {
		t.Errorf("client on %v, server on %v", m.c.Path(), m.s.Path())
	}
	m.talk(3 * time.Second)
}

// Answers count only from where the question went, and only while the race runs.
func TestRaceAnswers(t *testing.T) {
	m := opened(t, 1)
	m.network = cut
	m.race([]netip.AddrPort{serverAddr, serverAddr2}, map[uint32]netip.AddrPort{2: addrB})
	cookie := m.c.race.runners[0].cookie
	try := func(from Path, frames []byte) {
		m.c.Receive(m.now, from, m.craft(&m.s, frames), &m.c.out)
		m.flush(&m.c)
	}
	for _, from := range []Path{{Socket: 1, Remote: serverAddr}, {Socket: 2, Remote: serverAddr2}, {Socket: 2, Remote: addrX}} {
		try(from, wire.AppendResponse(nil, cookie))
		try(from, wire.AppendNotPreferred(nil, cookie))
	}
	if got := m.c.Info(); got.Counts[AnswerElsewhere] != 6 || got.Racing != 2 {
		t.Errorf("elsewhere: %+v", got)
	}
	try(Path{Socket: 2, Remote: serverAddr}, wire.AppendResponse(nil, wire.Cookie{1}))
	if got := m.c.Info(); got.Counts[AnswerUnknown] != 1 || got.Racing != 2 {
		t.Errorf("unknown: %+v", got)
	}
	// A challenge to a socket that the client does not send from has no answer: it
	// would vouch for a path that the client is not on.
	n := m.c.Info().Sent.Packets
	try(Path{Socket: 2, Remote: serverAddr}, wire.AppendChallenge(nil, wire.Cookie{2}))
	if got := m.c.Info(); got.Counts[NoAnswerSocket] != 1 || got.Sent.Packets != n {
		t.Errorf("challenged: %+v", got)
	}
	// An address that the server has left is out; the last one out loses the race.
	try(Path{Socket: 2, Remote: serverAddr}, wire.AppendNotPreferred(nil, cookie))
	if m.c.Info().Racing != 1 || m.c.count(EventPathReleased) != 0 {
		t.Errorf("left: %+v", m.c.events)
	}
	try(Path{Socket: 2, Remote: serverAddr2}, wire.AppendNotPreferred(nil, m.c.race.runners[0].cookie))
	m.c.wants(t, "all out", EventRaceLost, 1)
	m.c.wants(t, "all out", EventPathReleased, 1)
	try(Path{Socket: 2, Remote: serverAddr}, wire.AppendResponse(nil, cookie))
	if m.c.Path().Socket != 1 {
		t.Error("a late answer moved the session")
	}
}

// A move ends the race; so does the end of the session, or the caller.
func TestRaceEnds(t *testing.T) {
	for name, stop := range map[string]func(*sim){
		"move":  func(m *sim) { m.move(3, addrB) },
		"close": func(m *sim) { m.c.Close(m.now, 0, "", &m.c.out); m.flush(&m.c); m.run(time.Minute) },
		"stop":  func(m *sim) { m.c.StopRace(m.now, &m.c.out); m.flush(&m.c) },
	} {
		m := opened(t, 1)
		m.network = cut
		m.race([]netip.AddrPort{serverAddr}, map[uint32]netip.AddrPort{2: addrC, 3: addrB})
		stop(m)
		if name == "close" {
			m.run(time.Minute)
		}
		if m.c.Info().Racing != 0 || m.c.race != nil {
			t.Errorf("%s: still racing", name)
		}
		want := 2
		if name == "move" {
			want = 1 // the other is in use
		}
		m.c.wants(t, name, EventPathReleased, want)
		m.c.StopRace(m.now, &m.c.out)
	}
}

func TestRaceErrors(t *testing.T) {
	m := opened(t, 1)
	var servers, sockets []Path
	for i := range MaxRaceServers + 1 {
		servers = append(servers, Path{Socket: 2, Remote: netip.AddrPortFrom(addrX.Addr(), uint16(1+i))})
	}
	for i := range maxRunners + 1 {
		sockets = append(sockets, Path{Socket: uint32(2 + i), Remote: serverAddr})
	}
	for _, paths := range [][]Path{nil, servers, sockets} {
		if err := m.c.Race(m.now, paths, &m.c.out); err != ErrTooManyPaths {
			t.Errorf("%d paths: %v", len(paths), err)
		}
	}
	if m.c.Info().Racing != 0 || len(m.c.out.Packets) != 0 {
		t.Error("a refused race runs")
	}
	if err := m.c.Race(m.now, servers[:MaxRaceServers], &m.c.out); err != nil {
		t.Error(err)
	}
	if err := m.c.Race(m.now, servers[MaxRaceServers:], &m.c.out); err != ErrTooManyPaths {
		t.Error("one more server:", err)
	}
	if err := m.c.Race(m.now, sockets[:1], &m.c.out); err != ErrTooManyPaths {
		t.Error("one more server:", err)
	}
	if err := m.s.Race(m.now, sockets[:1], &m.s.out); err != ErrNotClient {
		t.Error(err)
	}
	if err := newSim(t, 1).c.Race(0, sockets[:1], &m.c.out); err != ErrNotConfirmed {
		t.Error(err)
	}
	m.c.Close(m.now, 0, "", &m.c.out)
	if err := m.c.Race(m.now, sockets[:1], &m.c.out); err != ErrClosed {
		t.Error(err)
	}
}
