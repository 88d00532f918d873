// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// The simulation drives a client's and a server's Session against each other in
// simulated time. The client has sockets; the network shows each to the server
// under an address, as a NAT would. Everything is seeded.

var (
	serverAddr = netip.MustParseAddrPort("198.51.100.7:7626")
	addrA      = netip.MustParseAddrPort("192.0.2.10:40000")
	addrB      = netip.MustParseAddrPort("203.0.113.5:40001")
	addrC      = netip.MustParseAddrPort("[2001:db8::10]:40002")
	// serverAddr2 and 3 are further addresses of the server.
	serverAddr2 = netip.MustParseAddrPort("198.51.100.8:7626")
	serverAddr3 = netip.MustParseAddrPort("[2001:db8:5::7]:7626")
	addrX       = netip.MustParseAddrPort("233.252.0.66:6666")
)

// flight is a packet on its way.
type flight struct {
	at       Time
	order    int // of sending: breaks ties
	toServer bool
	src, dst netip.AddrPort
	data     []byte
}

type end struct {
	*Session
	ids    *testIDs
	out    Output
	got    []string
	events []Event
	closed bool
	ended  bool
}

type sim struct {
	t      testing.TB
	rng    *rand.Rand
	now    Time
	rtt    time.Duration
	c, s   end
	socket map[uint32]netip.AddrPort // client socket -> address that the network shows
	wire   []flight
	order  int
	// network decides what becomes of a packet; nil delivers it half an RTT later.
	network func(f flight) []flight
	// ledgers is the simulation's own account of bytes at each client-side address.
	received, sent map[netip.AddrPort]int
	proven         map[netip.AddrPort]bool
	slots          map[wire.ID]netip.AddrPort
	server         []netip.AddrPort // addresses at which the server lives
	trace          bool
	quick, roomed  int // packets that plainDatagram delivered, and those that it left in the room given
}

// testIDs issues ids and knows which are live.
type testIDs struct {
	rng  *rand.Rand
	live map[wire.ID]bool
	fail bool
	most int
}

func (d *testIDs) Issue() (id wire.ID, reset wire.Token, err error) {
	if d.fail {
		return id, reset, fmt.Errorf("table is full")
	}
	fill(d.rng, id[:])
	fill(d.rng, reset[:])
	d.live[id] = true
	d.most = max(d.most, len(d.live))
	return id, reset, nil
}

func (d *testIDs) Retire(id wire.ID) {
	if !d.live[id] {
		panic("retired twice or never issued: " + id.String())
	}
	delete(d.live, id)
}

func fill(rng *rand.Rand, b []byte) {
	for len(b) > 0 {
		var w [8]byte
		binary.BigEndian.PutUint64(w[:], rng.Uint64())
		b = b[copy(b, w[:]):]
	}
}

type rngReader struct{ *rand.Rand }

func (r rngReader) Read(b []byte) (int, error) { fill(r.Rand, b); return len(b), nil }

func newSim(t testing.TB, seed uint64) *sim {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := &sim{
		t: t, rng: rng, rtt: 40 * time.Millisecond,
		socket:   map[uint32]netip.AddrPort{1: addrA},
		received: map[netip.AddrPort]int{}, sent: map[netip.AddrPort]int{},
		proven: map[netip.AddrPort]bool{addrA: true},
		slots:  map[wire.ID]netip.AddrPort{},
		server: []netip.AddrPort{serverAddr},
	}
	m.c.ids = &testIDs{rng: rng, live: map[wire.ID]bool{}}
	m.s.ids = &testIDs{rng: rng, live: map[wire.ID]bool{}}
	cc := Config{Role: Client, IDs: m.c.ids, Path: Path{Socket: 1, Remote: serverAddr}, Random: rngReader{rng}}
	sc := Config{Role: Server, IDs: m.s.ids, Path: Path{Remote: addrA, Local: serverAddr}, Random: rngReader{rng}}
	fill(rng, cc.C2S[:])
	fill(rng, cc.S2C[:])
	sc.C2S, sc.S2C = cc.C2S, cc.S2C
	for seq := range uint32(3) {
		id, reset, _ := m.c.ids.Issue()
		cc.Local = append(cc.Local, LocalID{seq, id, reset})
		sc.Remote = append(sc.Remote, RemoteID{seq, id, reset})
	}
	id, reset, _ := m.s.ids.Issue()
	sc.Local = []LocalID{{0, id, reset}}
	cc.Remote = []RemoteID{{0, id, reset}}
	m.c.Session = must(New(cc, 0))
	m.s.Session = must(New(sc, 0))
	return m
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// opened returns a simulation whose session is confirmed and quiet.
func opened(t testing.TB, seed uint64) *sim {
	m := newSim(t, seed)
	m.run(500 * time.Millisecond)
	if m.c.State() != StateOpen || m.s.State() != StateOpen {
		t.Fatalf("not open: client %v, server %v", m.c.State(), m.s.State())
	}
	m.forget()
	return m
}

func (m *sim) forget() {
	m.c.got, m.s.got = nil, nil
	m.c.events, m.s.events = nil, nil
}

// flush carries out what an end's last call asked for.
func (m *sim) flush(e *end) {
	for _, d := range e.out.Datagrams {
		e.got = append(e.got, string(d))
	}
	for _, ev := range e.out.Events {
		if m.trace {
			m.t.Logf("%v %v %v %v <- %v %v", m.now, e.role, ev.Kind, ev.Path, ev.From, ev.Reason)
		}
		e.events = append(e.events, ev)
		e.closed = e.closed || ev.Kind == EventClosed
		e.ended = e.ended || ev.Kind == EventEnded
	}
	for _, c := range e.out.Commits {
		m.slots[c.ID] = c.Path.Remote
		m.proven[c.Path.Remote] = true
	}
	for _, p := range e.out.Packets {
		f := flight{at: m.now + m.rtt/2, toServer: e == &m.c, data: slices.Clone(p.Data)}
		if f.toServer {
			f.src, f.dst = m.socket[p.Path.Socket], p.Path.Remote
		} else {
			f.src, f.dst = p.Path.Local, p.Path.Remote
			if !f.src.IsValid() {
				f.src = serverAddr // of packets that a test made
			}
			if !slices.Contains(m.server, f.src) {
				continue // that address is gone
			}
			m.sent[f.dst] += len(f.data)
			if !m.proven[f.dst] && m.sent[f.dst] > 3*m.received[f.dst] {
				m.t.Fatalf("%v: ledger of %v: sent %d for %d", m.now, f.dst, m.sent[f.dst], m.received[f.dst])
			}
		}
		if !f.src.IsValid() {
			continue // the socket has no network
		}
		if m.network != nil {
			for _, g := range m.network(f) {
				m.put(g)
			}
			continue
		}
		m.put(f)
	}
	e.out.Reset()
	if n := len(e.ids.live); n > maxLive {
		m.t.Fatalf("%d live ids", n)
	}
	if e.ended && len(e.ids.live) > 0 {
		m.t.Fatalf("%v ended with %d ids live", e.role, len(e.ids.live))
	}
}

func (m *sim) put(f flight) {
	f.order = m.order
	m.order++
	m.wire = append(m.wire, f)
}

// arrive hands a packet to whoever is at its destination.
func (m *sim) arrive(f flight) {
	if f.toServer {
		if !slices.Contains(m.server, f.dst) {
			return
		}
		m.injectAt(f.src, f.dst, f.data)
		return
	}
	for socket, a := range m.socket {
		if a == f.dst {
			r := m.receive(&m.c, Path{Socket: socket, Remote: f.src}, f.data)
			if m.trace {
				m.t.Logf("%v client on %d: %d bytes from %v: %v", m.now, socket, len(f.data), f.src, r)
			}
			m.flush(&m.c)
			return
		}
	}
}

// inject gives the server a packet as if from src.
func (m *sim) inject(src netip.AddrPort, data []byte) Reason {
	return m.injectAt(src, serverAddr, data)
}

// injectAt does at one of the server's addresses.
func (m *sim) injectAt(src, dst netip.AddrPort, data []byte) Reason {
	before := m.s.received.Bytes
	// The budget is filled before the answers, and by authentic packets only.
	m.received[src] += len(data)
	r := m.receive(&m.s, Path{Remote: src, Local: dst}, data)
	if m.s.received.Bytes == before {
		m.received[src] -= len(data)
	}
	if m.trace {
		m.t.Logf("%v server: %d bytes from %v: %v", m.now, len(data), src, r)
	}
	m.flush(&m.s)
	return r
}

// run lets simulated time pass.
func (m *sim) run(d time.Duration) {
	end := m.now + d
	for ticks, events := 0, 0; ; events++ {
		if events > 100_000 {
			m.t.Fatalf("%v: a storm of packets", m.now)
		}
		next, who := end, 0
		for i := range m.wire {
			if m.wire[i].at < next {
				next, who = m.wire[i].at, 1
			}
		}
		if t, ok := m.c.Deadline(); ok && t < next {
			next, who = t, 2
		}
		if t, ok := m.s.Deadline(); ok && t < next {
			next, who = t, 3
		}
		if next > m.now {
			m.now, ticks = next, 0
		}
		if ticks++; ticks > 10000 {
			m.t.Fatalf("%v: no end of ticks: %d", m.now, who)
		}
		switch who {
		case 0:
			return
		case 1:
			first := 0
			for i := range m.wire {
				a, b := &m.wire[i], &m.wire[first]
				if a.at < b.at || a.at == b.at && a.order < b.order {
					first = i
				}
			}
			f := m.wire[first]
			m.wire = slices.Delete(m.wire, first, first+1)
			m.arrive(f)
		case 2:
			m.c.Tick(m.now, &m.c.out)
			m.flush(&m.c)
		case 3:
			m.s.Tick(m.now, &m.s.out)
			m.flush(&m.s)
		}
	}
}

func (m *sim) clientSend(s string) error {
	err := m.c.Send(m.now, []byte(s), &m.c.out)
	m.flush(&m.c)
	return err
}

func (m *sim) serverSend(s string) error {
	err := m.s.Send(m.now, []byte(s), &m.s.out)
	m.flush(&m.s)
	return err
}

// move opens a new client socket at addr and moves the session there.
func (m *sim) move(socket uint32, addr netip.AddrPort) {
	m.bind(socket, addr)
	if err := m.c.Move(m.now, Path{Socket: socket, Remote: serverAddr}, &m.c.out); err != nil {
		m.t.Fatal(err)
	}
	m.flush(&m.c)
}

// bind opens a client socket; the address is its own from now on.
func (m *sim) bind(socket uint32, addr netip.AddrPort) {
	for other, a := range m.socket {
		if a == addr {
			delete(m.socket, other)
		}
	}
	m.socket[socket] = addr
}

// rebind shows the client's current socket under another address.
func (m *sim) rebind(addr netip.AddrPort) { m.socket[m.c.Path().Socket] = addr }

func (e *end) count(k EventKind) (n int) {
	for _, ev := range e.events {
		if ev.Kind == k {
			n++
		}
	}
	return n
}

// last is the last event of its kind; zero where there is none.
func (e *end) last(k EventKind) (last Event) {
	for _, ev := range e.events {
		if ev.Kind == k {
			last = ev
		}
	}
	return last
}

func (e *end) wants(t testing.TB, what string, k EventKind, n int) {
	t.Helper()
	if got := e.count(k); got != n {
		t.Errorf("%s: %v: %d events %v, want %d: %v", what, e.role, got, k, n, e.events)
	}
}
