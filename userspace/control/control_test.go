// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

type fixed struct {
	status   Status
	sessions []Session
	counters []Counter
	workers  []Worker
	events   *Events

	drained     chan time.Duration
	generations []Generation
	refusal     error
}

func (f fixed) Status() Status      { return f.status }
func (f fixed) Counters() []Counter { return f.counters }
func (f fixed) Workers() []Worker   { return f.workers }
func (f fixed) Events() *Events     { return f.events }
func (f fixed) Sessions(yield func(Live) bool) {
	for i := range f.sessions {
		if !yield(&fixedSession{session: &f.sessions[i]}) {
			return
		}
	}
}

// fixedSession is closed once.
type fixedSession struct{ session *Session }

func (l *fixedSession) Read(s *Session) { *s = *l.session }
func (l *fixedSession) Detail() Detail {
	return Detail{Session: *l.session, IDs: []wire.ID{l.session.ID}, Packets: map[string]uint64{"delivered": 1}}
}

// Trace shows what the session has received, and ends.
func (l *fixedSession) Trace(snap int, f func(*Packet)) func() {
	for i := range l.session.PacketsReceived {
		data := []byte{wire.TypeData, 0, 0, 0, 0, 0, 1, byte(i), 9, 9}
		p := &Packet{Stage: "server", Verdict: "deliver", Reason: "delivered", Session: l.session.ID, Bytes: len(data), Total: len(data), Data: data}
		p.ReadCounter()
		if snap > 0 {
			p.Data = p.Data[:snap]
		}
		f(p)
	}
	f(nil)
	return func() {}
}

func (l *fixedSession) Close(reason string) error {
	if reason == "" {
		return errors.New("no reason")
	}
	l.session.State = "closing"
	return nil
}

func (f fixed) Drain(timeout time.Duration) { f.drained <- timeout }
func (f fixed) TakeSocketProgram() error    { return f.refusal }
func (f fixed) RotateState() ([]Generation, error) {
	return f.generations, f.refusal
}

func serve(t *testing.T, path string, source Source) *Server {
	t.Helper()
	s, err := Listen(path, NewHandler(source))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRoundTrip(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	want := fixed{
		status: Status{Instance: "edge", PID: 42, Started: at, Mode: "xdp", ModeReason: "because",
			Interfaces: []Interface{{Name: "eth0", Mode: "native", State: "attached"}},
			Services:   []Service{{Port: 7, Backend: "echo:"}}, TableSlots: 1024},
		sessions: []Session{{ID: wire.ID{0, 0xff}, Remote: netip.MustParseAddrPort("192.0.2.1:9"), State: StateOpen, Started: at, LastReceived: at,
			Moves: 3, Candidates: []netip.AddrPort{}}},
		workers:  []Worker{{Worker: 1, Packets: 7, Dropped: 2, Lanes: map[string]uint64{"main": 7}}},
		counters: []Counter{{Stage: "xdp", Verdict: "drop", Reason: "mac1", Value: 1 << 60}},
	}
	path := filepath.Join(t.TempDir(), "new", "edge.sock")
	serve(t, path, want)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket: %v %v, want mode 0600", info, err)
	}
	c, ctx := NewClient(path), context.Background()
	status, err := c.Status(ctx)
	if diff := cmp.Diff(want.status, status); err != nil || diff != "" {
		t.Errorf("status: %v %s", err, diff)
	}
	sessions, err := c.Sessions(ctx, SessionQuery{})
	if diff := cmp.Diff(want.sessions, sessions, plainValues); err != nil || diff != "" {
		t.Errorf("sessions: %v %s", err, diff)
	}
	workers, err := c.Workers(ctx)
	if diff := cmp.Diff(want.workers, workers); err != nil || diff != "" {
		t.Errorf("workers: %v %s", err, diff)
	}
	counters, err := c.Counters(ctx)
	if diff := cmp.Diff(want.counters, counters); err != nil || diff != "" {
		t.Errorf("counters: %v %s", err, diff)
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path, fixed{})
	response, err := NewClient(path).http.Post("http://xdp-roam/v1/status", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", response.Status)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if _, err := NewClient(path).Status(context.Background()); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("asking a stale socket: %v, want ErrNotRunning", err)
	}
	serve(t, path, fixed{status: Status{PID: 7}})
	if status, err := NewClient(path).Status(context.Background()); err != nil || status.PID != 7 {
		t.Errorf("after replacing it: %+v %v", status, err)
	}
}

func TestLiveSocketIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path, fixed{status: Status{PID: 7}})
	if _, err := Listen(path, NewHandler(fixed{})); !errors.Is(err, ErrInUse) {
		t.Fatalf("second daemon: %v, want ErrInUse", err)
	}
	if status, err := NewClient(path).Status(context.Background()); err != nil || status.PID != 7 {
		t.Errorf("the first after the attempt: %+v %v", status, err)
	}
}

func TestForeignFileIsNotTouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, NewHandler(fixed{})); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("Listen over a file: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("the file afterwards: %q %v", text, err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "s")
	s, err := Listen(path, NewHandler(fixed{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(directory); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if _, err := NewClient(path).Counters(context.Background()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("asking after Close: %v, want ErrNotRunning", err)
	}
}

// A daemon that was replaced by force must not take its successor's socket away.
func TestCloseKeepsASuccessorsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := Listen(path, NewHandler(fixed{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	serve(t, path, fixed{status: Status{PID: 2}})
	first.Close()
	if status, err := NewClient(path).Status(context.Background()); err != nil || status.PID != 2 {
		t.Errorf("successor: %+v %v", status, err)
	}
}

func TestOtherVersionIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	other := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"api_version":"xdp-roam/v9","kind":"Status","items":[{}]}`))
	})}
	go other.Serve(listener)
	defer other.Close()
	if _, err := NewClient(path).Status(context.Background()); err == nil || !strings.Contains(err.Error(), "xdp-roam/v9") {
		t.Errorf("another version: %v", err)
	}
}

// The limit is the same for the daemon and for who asks it.
func TestPathTooLong(t *testing.T) {
	directory, err := os.MkdirTemp("/tmp", "roam") // t.TempDir's name may be too long itself
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(directory)
	path := filepath.Join(directory, strings.Repeat("x", maxPath-len(directory)-1))
	s, err := Listen(path, NewHandler(fixed{}))
	if err != nil {
		t.Fatalf("%d bytes: %v", len(path), err)
	}
	go s.Serve()
	if _, err := NewClient(path).Status(context.Background()); err != nil {
		t.Errorf("%d bytes: %v", len(path), err)
	}
	s.Close()
	path += "x"
	_, ours := Listen(path, NewHandler(fixed{}))
	_, theirs := NewClient(path).Status(context.Background())
	for _, err := range []error{ours, theirs} {
		if !errors.Is(err, ErrPathTooLong) || strings.Count(err.Error(), path) != 1 || !strings.Contains(err.Error(), fmt.Sprint(maxPath)) {
			t.Errorf("%d bytes: %v", len(path), err)
		}
	}
}

func TestActions(t *testing.T) {
	source := fixed{
		status: Status{Draining: true, DrainDeadline: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, drained: make(chan time.Duration, 1),
		generations: []Generation{{Generation: 0, LiveIDs: 9}, {Generation: 1, Newest: true}},
	}
	path := filepath.Join(t.TempDir(), "edge.sock")
	serve(t, path, source)
	c, ctx := NewClient(path), context.Background()
	status, err := c.Drain(ctx, 90*time.Second)
	if diff := cmp.Diff(source.status, status); err != nil || diff != "" {
		t.Errorf("drain: %v %s", err, diff)
	}
	if got := <-source.drained; got != 90*time.Second {
		t.Errorf("drain: a timeout of %v", got)
	}
	generations, err := c.RotateState(ctx)
	if diff := cmp.Diff(source.generations, generations); err != nil || diff != "" {
		t.Errorf("rotate: %v %s", err, diff)
	}

	source.refusal = errors.New("all of them are in use")
	path = filepath.Join(t.TempDir(), "edge.sock")
	serve(t, path, source)
	if _, err := NewClient(path).RotateState(ctx); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), source.refusal.Error()) {
		t.Errorf("a refusal: %v", err)
	}
	if _, err := NewClient(path).Drain(ctx, -1); err == nil {
		t.Error("a negative timeout is taken")
	}
	select {
	case got := <-source.drained:
		t.Errorf("drained with %v", got)
	default:
	}
	// What changes something is no GET.
	if _, err := get[Status](ctx, NewClient(path), "drain", KindStatus); err == nil {
		t.Error("GET drains")
	}
}

// ending is a daemon that Drain brings to its end at once, as one without sessions is.
type ending struct {
	fixed
	path   string
	server *Server
}

func (e *ending) Drain(time.Duration) {
	go e.server.Close()
	for { // until Close has begun
		if _, err := NewClient(e.path).Status(context.Background()); errors.Is(err, ErrEnding) {
			return
		}
	}
}

// A daemon that is ending is there until it has ended: who waits for that does not
// meet what it still holds, and none takes its place before.
func TestStopKeepsTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.sock")
	server := serve(t, path, fixed{})
	server.Stop()
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrEnding) {
		t.Errorf("stopped: %v", err)
	}
	if _, err := Listen(path, NewHandler(fixed{})); !errors.Is(err, ErrInUse) {
		t.Errorf("another one on its socket: %v", err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("closed: %v", err)
	}
}

func TestDrainIsAnsweredByTheEnd(t *testing.T) {
	source := &ending{path: filepath.Join(t.TempDir(), "edge.sock"), fixed: fixed{status: Status{Draining: true}}}
	source.server = serve(t, source.path, source)
	status, err := NewClient(source.path).Drain(t.Context(), 0)
	if err != nil || !status.Draining {
		t.Errorf("%+v %v", status, err)
	}
}
