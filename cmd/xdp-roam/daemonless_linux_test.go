// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// shown is a daemon that answers with fixed items.
type shown struct {
	status   control.Status
	sessions []control.Session
	counters []control.Counter
	workers  []control.Worker
	events   *control.Events
}

func init() {
	scriptCommands["daemon"] = func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: daemon SOCKET")
		}
		server, err := control.Listen(ts.MkAbs(args[0]), control.NewHandler(exampleDaemon()))
		ts.Check(err)
		go server.Serve()
		ts.Defer(func() { server.Close() })
		e, _, _ := testEnv("")
		ts.Setenv("NOW", e.now().Format(time.RFC3339))
	}
}

// exampleDaemon is what scripts talk to.
func exampleDaemon() shown {
	sessions, events := exampleSessions(), new(control.Events)
	alice := sessions[1]
	e, _, _ := testEnv("")
	of := func(ago time.Duration, class, name string) control.Event {
		return control.Event{
			Time: at(e, ago), Class: class, Name: name, Session: alice.ID, Service: alice.Service, Worker: 1,
			PeerKey: alice.PeerKey, PeerName: alice.PeerName, Remote: alice.Remote,
		}
	}
	moved := of(40*time.Second, control.ClassMove, "roam_committed")
	moved.From = alice.Local
	closed := of(5*time.Second, control.ClassSession, "session_closed")
	closed.Reason = "idle"
	for _, event := range []control.Event{
		of(3*time.Hour, control.ClassSession, "session_opened"), moved,
		{
			Time: at(e, 30*time.Second), Class: control.ClassPacket, Name: "drop", Reason: "id_forged", Stage: "xdp", ID: wire.ID{0xab},
			Remote: moved.Remote, Local: moved.From, Bytes: 77,
		},
		closed, {Time: at(e, 0), Class: control.ClassEdge, Name: "state_rotated", Reason: "generation 1 is the newest"},
	} {
		events.Record(event)
	}
	return shown{
		sessions: sessions, events: events,
		counters: []control.Counter{
			{Stage: "xdp", Verdict: "drop", Reason: "id_forged", Value: 12}, {Stage: "server", Verdict: "deliver", Reason: "delivered", Value: 3},
		},
		workers: []control.Worker{{Worker: 0, Packets: 100, Lanes: map[string]uint64{"main": 100}}, {Worker: 1, Packets: 300, Dropped: 30}},
		status:  control.Status{Instance: "default", Mode: "none", Started: at(e, time.Hour), Sessions: 2, TableSlots: 1024},
	}
}

func (s shown) Status() control.Status      { return s.status }
func (s shown) Counters() []control.Counter { return s.counters }
func (s shown) Workers() []control.Worker   { return s.workers }
func (s shown) Events() *control.Events     { return s.events }
func (s shown) Drain(time.Duration)         {}
func (s shown) TakeSocketProgram() error    { return errors.New("there are no sockets") }
func (s shown) RotateState() ([]control.Generation, error) {
	return nil, errors.New("all four generations are in use")
}
func (s shown) Sessions(f func(control.Live) bool) {
	for i := range s.sessions {
		if !f(&shownSession{&s.sessions[i]}) {
			return
		}
	}
}

// shownSession is a session of it. Closing it changes its state.
type shownSession struct{ *control.Session }

func (s *shownSession) Read(into *control.Session) { *into = *s.Session }

// Trace shows a packet at two stages and one that is sent, and ends.
func (s *shownSession) Trace(snap int, f func(*control.Packet)) func() {
	e, _, _ := testEnv("")
	one := s.Session
	packet := make([]byte, 60)
	packet[0], packet[7] = wire.TypeData, 42
	copy(packet[8:], one.CurrentID[:])
	for i, p := range []control.Packet{
		{Stage: "socket", Verdict: "deliver", Reason: "candidate"}, {Stage: "server", Verdict: "deliver", Reason: "delivered"},
		{Stage: "server", Verdict: "send", Reason: "elsewhere"},
	} {
		p.Time, p.Session, p.ID, p.Remote, p.Local = at(e, time.Duration(3-i)*time.Millisecond), one.ID, one.CurrentID, one.Remote, one.Local
		p.Link, p.Data, p.Bytes, p.Total = control.LinkUDP, packet, len(packet), len(packet)
		p.ReadCounter()
		if snap > 0 {
			p.Data = p.Data[:snap]
		}
		f(&p)
	}
	f(nil)
	return func() {}
}

func (s *shownSession) Detail() control.Detail {
	return control.Detail{
		Session: *s.Session, IDs: []wire.ID{s.CurrentID, {15: 9}}, SpareIDs: 1, PeerID: wire.ID{1, 2}, SparePeerIDs: 3,
		Epoch: 2, Rekeying: true, PTO: int64(40 * time.Millisecond), IdleTimeout: int64(24 * time.Hour), MaxDatagram: 1234,
		LastSent: s.LastReceived, MovesStarted: s.Moves + 1, MoveStarted: s.LastMove, Packets: map[string]uint64{"delivered": 12, "auth_failed": 1},
	}
}

func (s *shownSession) Close(reason string) error {
	if reason == "" {
		return errors.New("a reason is missing")
	}
	s.State = "closing"
	return nil
}

// daemon serves items and returns its socket.
func daemon(t *testing.T, s shown) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	server, err := control.Listen(path, control.NewHandler(s))
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve()
	t.Cleanup(func() { server.Close() })
	return path
}

// command runs one command line in this process.
func command(t *testing.T, args ...string) (code int, stdout, stderr *bytes.Buffer) {
	t.Helper()
	e, stdout, stderr := testEnv("")
	e.args = args
	return run(e), stdout, stderr
}

func at(e *env, d time.Duration) time.Time { return e.now().Add(-d) }

func exampleSessions() []control.Session {
	e, _, _ := testEnv("")
	addr := netip.MustParseAddrPort
	id := func(text string) (id wire.ID) { // padded with zeros
		if err := id.UnmarshalText([]byte(text + strings.Repeat("0", 32-len(text)))); err != nil {
			panic(err)
		}
		return id
	}
	key := func(text string) (key handshake.PublicKey) {
		if err := key.UnmarshalText([]byte(text)); err != nil {
			panic(err)
		}
		return key
	}
	return []control.Session{
		{
			ID: id("ffeeddccbbaa99887766554433221100"), CurrentID: id("77"), PeerKey: key("BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="),
			Service: 53, State: "open",
			Remote: addr("[2001:db8::2]:4000"), Local: addr("[2001:db8::1]:7626"), Candidates: []netip.AddrPort{addr("192.0.2.9:5")},
			Started: at(e, time.Minute), LastReceived: at(e, 0), RTT: 312_000,
		},
		{
			ID: id("00112233445566778899aabbccddeeff"), CurrentID: id("78"), PeerKey: key("CAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), PeerName: "alice",
			Service: 7, State: "open", Owner: 1,
			Remote: addr("198.51.100.7:40000"), Local: addr("192.0.2.1:7626"), Candidates: []netip.AddrPort{},
			Started: at(e, 3*time.Hour), LastReceived: at(e, 37*time.Second), LastMove: at(e, 40*time.Second), Moves: 2, RTT: 23_456_789,
			PacketsReceived: 12, BytesReceived: 20000, PacketsSent: 11, BytesSent: 900,
		},
	}
}

// Without a daemon and without pins a command says that both are missing, and how to begin.
func TestNothingRuns(t *testing.T) {
	empty := t.TempDir()
	for _, name := range []string{"session list", "stats", "status", "map list", "map dump slots"} {
		args := append(strings.Fields(name), "--control", filepath.Join(empty, "none.sock"), "--bpffs", empty)
		code, stdout, stderr := command(t, args...)
		if code != exitNotLoaded || stdout.Len() > 0 {
			t.Errorf("%s: exit code %d, want %d; stdout %q", name, code, exitNotLoaded, stdout)
		}
		if !strings.Contains(stderr.String(), "xdp-roam run") {
			t.Errorf("%s: stderr %q does not say how to begin", name, stderr)
		}
	}
}
