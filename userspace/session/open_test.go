// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestOpen(t *testing.T) {
	m := newSim(t, 1)
	m.run(time.Second)
	m.c.wants(t, "open", EventConfirmed, 1)
	m.s.wants(t, "open", EventConfirmed, 1)
	ci, si := m.c.Info(), m.s.Info()
	if ci.SpareRemoteIDs != 2 || si.SpareRemoteIDs != 2 {
		t.Errorf("spare ids at the client %d, at the server %d, want 2 and 2", ci.SpareRemoteIDs, si.SpareRemoteIDs)
	}
	if ci.SRTT != m.rtt || si.SRTT != m.rtt {
		t.Errorf("srtt %v and %v, want %v", ci.SRTT, si.SRTT, m.rtt)
	}
	var live []wire.ID
	m.s.LocalIDs(func(id wire.ID) { live = append(live, id) })
	if len(live) != si.LocalIDs || live[0] != si.LocalID {
		t.Errorf("live ids %v", live)
	}
	if got := m.c.MaxDatagram(); got != 4*(wire.InitialMTU6-47) {
		t.Errorf("largest datagram %d", got)
	}
	if m.slots[si.LocalID] != addrA {
		t.Errorf("slot of %v is %v, want %v", si.LocalID, m.slots[si.LocalID], addrA)
	}
	if err := m.clientSend("up"); err != nil {
		t.Fatal(err)
	}
	if err := m.serverSend("down"); err != nil {
		t.Fatal(err)
	}
	m.run(time.Second)
	if len(m.s.got) != 1 || m.s.got[0] != "up" || len(m.c.got) != 1 || m.c.got[0] != "down" {
		t.Errorf("got %q and %q", m.s.got, m.c.got)
	}
}

// The server is silent until the address that RESP went to has answered.
func TestUnconfirmed(t *testing.T) {
	m := newSim(t, 1)
	var first []byte
	m.network = func(f flight) []flight { first = f.data; return nil }
	m.run(time.Millisecond)
	if first == nil {
		t.Fatal("the client sent nothing at once")
	}
	if err := m.serverSend("too early"); !errors.Is(err, ErrNotConfirmed) {
		t.Errorf("Send: %v", err)
	}
	if r := m.inject(addrX, first); r != Unconfirmed {
		t.Errorf("from elsewhere: %v", r)
	}
	if m.s.Info().Sent.Packets != 0 {
		t.Error("the server sent before it was confirmed")
	}
	// It was not marked as received.
	if r := m.inject(addrA, first); r != Delivered {
		t.Errorf("from the RESP address: %v", r)
	}
	m.s.wants(t, "confirmed", EventConfirmed, 1)
	if m.s.Info().Sent.Packets == 0 {
		t.Error("no PONG")
	}
}

func TestNobodyConfirms(t *testing.T) {
	m := newSim(t, 1)
	m.network = func(flight) []flight { return nil }
	m.run(15 * time.Second)
	if !m.s.ended || m.s.Info().Sent.Packets != 0 {
		t.Errorf("server: ended %v, sent %d", m.s.ended, m.s.Info().Sent.Packets)
	}
}

// The first PING goes again at 1, 2 and 4 s.
func TestFirstPingSchedule(t *testing.T) {
	m := newSim(t, 1)
	var at []Time
	m.network = func(f flight) []flight { at = append(at, m.now); return nil }
	m.run(5 * time.Second)
	want := []Time{0, time.Second, 2 * time.Second, 4 * time.Second}
	if len(at) != len(want) {
		t.Fatalf("sent at %v, want %v", at, want)
	}
	for i := range want {
		if at[i] != want[i] {
			t.Errorf("sent at %v, want %v", at, want)
		}
	}
}

func TestClose(t *testing.T) {
	for _, who := range []Role{Client, Server} {
		m := opened(t, 2)
		a, b := &m.c, &m.s
		if who == Server {
			a, b = b, a
		}
		a.Close(m.now, wire.CloseServiceGone, "the\x01backend left", &a.out)
		m.flush(a)
		if err := a.Send(m.now, nil, &a.out); !errors.Is(err, ErrClosed) {
			t.Errorf("Send after Close: %v", err)
		}
		m.run(m.rtt)
		b.wants(t, "close", EventClosed, 1)
		if ev := b.events[len(b.events)-1]; !ev.Remote || ev.Code != wire.CloseServiceGone || ev.Text != "the�backend left" {
			t.Errorf("event %+v", ev)
		}
		if b.ended {
			t.Error("ids gave no time to late packets")
		}
		packets := b.Info().Sent.Packets
		m.run(5 * time.Second)
		if got := b.Info().Sent.Packets; got != packets {
			t.Errorf("%d packets after the PONG: not silent", got-packets)
		}
		if !a.ended || !b.ended {
			t.Errorf("ended: %v, %v", a.ended, b.ended)
		}
		a.wants(t, "close", EventClosed, 1)
	}
}

// Whoever closes learns when the peer has heard of it; no other PONG says so.
func TestCloseAcknowledged(t *testing.T) {
	m := opened(t, 2)
	var pongs [][]byte
	m.network = func(f flight) []flight {
		if !f.toServer {
			pongs = append(pongs, f.data)
			return nil
		}
		return []flight{f}
	}
	m.c.Ping(m.now, &m.c.out)
	m.flush(&m.c)
	m.run(m.rtt)
	m.c.Close(m.now, wire.CloseDone, "", &m.c.out)
	m.flush(&m.c)
	m.run(m.rtt/2 + 1)
	if len(pongs) != 2 {
		t.Fatalf("%d packets from the server, want a PONG for PING and CLOSE each", len(pongs))
	}
	if m.c.Receive(m.now, m.c.Path(), pongs[0], &m.c.out); m.c.CloseAcknowledged() {
		t.Error("the PONG of an earlier PING was taken for that of CLOSE")
	}
	if m.c.Receive(m.now, m.c.Path(), pongs[1], &m.c.out); !m.c.CloseAcknowledged() || m.c.State() != StateClosing {
		t.Errorf("after the PONG of CLOSE: %v, acknowledged %v", m.c.State(), m.c.CloseAcknowledged())
	}
	if !m.s.CloseAcknowledged() {
		t.Error("the end that was told waits to be heard")
	}
	if opened(t, 2).c.CloseAcknowledged() {
		t.Error("an open session was closed")
	}
}

// A CLOSE whose PONG is lost is sent again, answered once and then met by
// silence; the closer gives up after its tries.
func TestCloseUnanswered(t *testing.T) {
	m := opened(t, 2)
	sent := 0
	m.network = func(f flight) []flight {
		if f.toServer {
			sent++
			f.at = m.now + m.rtt/2
			return []flight{f}
		}
		return nil
	}
	m.c.Close(m.now, wire.CloseDone, "", &m.c.out)
	m.flush(&m.c)
	before := m.s.Info().Sent.Packets
	m.run(time.Minute)
	if sent != maxTries {
		t.Errorf("CLOSE was sent %d times, want %d", sent, maxTries)
	}
	if got := m.s.Info().Sent.Packets - before; got != 1 {
		t.Errorf("the server answered %d times, want once", got)
	}
	if !m.c.ended || !m.s.ended {
		t.Error("not ended")
	}
}

func TestClosesCross(t *testing.T) {
	m := opened(t, 2)
	m.c.Close(m.now, wire.CloseDone, "c", &m.c.out)
	m.s.Close(m.now, wire.CloseDone, "s", &m.s.out)
	m.flush(&m.c)
	m.flush(&m.s)
	c, s := m.c.Info().Sent.Packets, m.s.Info().Sent.Packets
	m.run(time.Minute)
	if c, s = m.c.Info().Sent.Packets-c, m.s.Info().Sent.Packets-s; c != 1 || s != 1 {
		t.Errorf("%d and %d packets after the CLOSEs, want a PONG each", c, s)
	}
	m.c.wants(t, "cross", EventClosed, 1)
	m.s.wants(t, "cross", EventClosed, 1)
	if !m.c.ended || !m.s.ended {
		t.Error("not ended")
	}
}

// A server that closes before it is confirmed has nobody to tell.
func TestCloseUnconfirmed(t *testing.T) {
	m := newSim(t, 2)
	m.s.Close(0, wire.CloseShuttingDown, "", &m.s.out)
	m.flush(&m.s)
	m.s.wants(t, "close", EventClosed, 1)
	m.network = func(flight) []flight { return nil }
	m.run(10 * time.Second)
	if m.s.Info().Sent.Packets != 0 || !m.s.ended {
		t.Errorf("sent %d, ended %v", m.s.Info().Sent.Packets, m.s.ended)
	}
	if r := m.inject(addrA, make([]byte, 50)); r != Malformed {
		t.Errorf("after the end: %v", r)
	}
}

func TestConfig(t *testing.T) {
	good := func() Config {
		return Config{
			Role: Server, IDs: &testIDs{}, Path: Path{Remote: addrA},
			Local: []LocalID{{}}, Remote: []RemoteID{{}},
		}
	}
	if _, err := New(good(), 0); err != nil {
		t.Fatal(err)
	}
	bad := map[string]func(c *Config){
		"role":         func(c *Config) { c.Role = 0 },
		"no local id":  func(c *Config) { c.Local = nil },
		"no remote id": func(c *Config) { c.Remote = nil },
		"9 ids":        func(c *Config) { c.Remote = make([]RemoteID, 9) },
		"local seq":    func(c *Config) { c.Local[0].Seq = 1 },
		"remote seq":   func(c *Config) { c.Remote = make([]RemoteID, 2) },
		"ids":          func(c *Config) { c.IDs = nil },
		"path":         func(c *Config) { c.Path = Path{} },
	}
	for name, spoil := range bad {
		c := good()
		spoil(&c)
		if _, err := New(c, 0); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	unique := func(s string) {
		if s == "" || s == "unknown" || seen[s] {
			t.Errorf("name %q is missing or used twice", s)
		}
		seen[s] = true
	}
	for r := range Reason(NumReasons) {
		unique(r.String())
	}
	for k := EventConfirmed; k <= EventRaceLost; k++ {
		unique(k.String())
	}
	clear(seen)
	for s := range StateEnded + 1 {
		unique(s.String())
	}
	unique(Client.String())
	unique(Server.String())
	for _, beyond := range []string{Reason(NumReasons).String(), (EventRaceLost + 1).String(), (StateEnded + 1).String()} {
		if beyond != "unknown" {
			t.Errorf("name %q for nothing", beyond)
		}
	}
	if got := (Path{Socket: 3, Remote: addrA}).String(); got != "192.0.2.10:40000#3" {
		t.Error(got)
	}
}

// A caller's broken source of randomness must not make cookies guessable.
func TestBrokenRandom(t *testing.T) {
	s := &Session{options: &options{random: strings.NewReader("")}}
	var out Output
	if a, b := s.randomCookie(&out), s.randomCookie(&out); a == b || a.IsZero() {
		t.Errorf("%v and %v", a, b)
	}
}

// Random bytes are handed out once, and nothing of them stays for the next.
func TestEntropy(t *testing.T) {
	var out Output
	s := new(Session)
	seen := map[uint64]bool{}
	for range 1000 {
		c := s.randomCookie(&out)
		for _, v := range []uint64{binary.BigEndian.Uint64(c[:]), binary.BigEndian.Uint64(c[8:]), s.randomToken(&out)} {
			if v == 0 || seen[v] {
				t.Fatalf("%x came before", v)
			}
			seen[v] = true
		}
		used := out.random.bytes[:len(out.random.bytes)-out.random.left]
		if slices.ContainsFunc(used, func(b byte) bool { return b != 0 }) {
			t.Fatal("what was handed out is still there")
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.randomCookie(&out) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestIdle(t *testing.T) {
	m := opened(t, 3) // no DATAGRAM ever
	m.run(uselessIdle + 5*time.Second)
	if !m.c.closed || !m.s.closed {
		t.Errorf("without datagrams: closed %v, %v after 65 s", m.c.closed, m.s.closed)
	}
	for _, ev := range m.s.events {
		if ev.Kind == EventClosed && ev.Code != wire.CloseIdle {
			t.Errorf("closed with %v", ev.Code)
		}
	}
	m = opened(t, 3)
	m.clientSend("x")
	m.run(time.Hour)
	if m.c.closed || m.s.closed {
		t.Error("a session with datagrams ended within an hour")
	}
	if m.c.keysBuilt || m.s.keysBuilt {
		t.Error("an idle session holds AEADs")
	}
	for _, l := range m.s.local {
		if l.use != nil {
			t.Error("an idle session holds an AEAD")
		}
	}
	m.clientSend("still there")
	m.run(time.Second)
	if len(m.s.got) != 2 {
		t.Errorf("got %q", m.s.got)
	}
	m.run(25 * time.Hour)
	if !m.c.ended || !m.s.ended {
		t.Error("did not end after 24 h")
	}
}

func TestKeepalive(t *testing.T) {
	m := opened(t, 3)
	m.c.options.keepalive = 25 * time.Second
	m.run(10 * time.Minute)
	if m.c.closed || m.s.closed {
		t.Error("ended in spite of keepalive")
	}
}
