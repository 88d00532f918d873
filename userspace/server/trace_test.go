// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// tapped is what a tap was given.
type tapped struct {
	mu      sync.Mutex
	packets []Traced
	ended   int
}

func (l *tapped) tap(p *Traced) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p == nil {
		l.ended++
		return
	}
	own := *p
	own.Data = bytes.Clone(p.Data)
	l.packets = append(l.packets, own)
}

func (l *tapped) find(f func(*Traced) bool) (found []Traced) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.packets {
		if f(&l.packets[i]) {
			found = append(found, l.packets[i])
		}
	}
	return found
}

func (l *tapped) has(verdict, reason string) bool {
	return len(l.find(func(p *Traced) bool { return p.Verdict == verdict && p.Reason == reason })) > 0
}

// flagsOf returns the flags of all the session's ids.
func flagsOf(t *testing.T, srv *Server, s *Session) (all []maps.Flags) {
	t.Helper()
	for _, id := range s.IDs() {
		slot, err := srv.table.Get(maps.ID(id))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, slot.Flags)
	}
	return all
}

// A trace shows what comes and goes, encrypted as it is, what became of it, and both
// paths of a move; the flag is on every id, also later ones, while anyone looks.
func TestTrace(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	var one, two tapped
	stopOne, stopTwo := s.Trace(one.tap), s.Trace(two.tap)
	const secret = "what nobody on the way may read"
	talk(t, s, c, secret)
	home := c.sockets[0].conn.LocalAddr()
	if !one.has("deliver", "delivered") || !one.has(TraceSend, "main") || !two.has("deliver", "delivered") {
		t.Fatalf("traced %+v", one.packets)
	}
	c.move(c.addSocket("127.0.0.2", srv))
	talk(t, s, c, "elsewhere")
	wantPath(t, srv, s, c, 1)
	away := c.sockets[1].conn.LocalAddr()
	for _, from := range []any{home, away} {
		if len(one.find(func(p *Traced) bool { return p.Remote == from && p.Verdict == "deliver" })) == 0 {
			t.Errorf("nothing received from %v", from)
		}
		if len(one.find(func(p *Traced) bool { return p.Remote == from && p.Verdict == TraceSend })) == 0 {
			t.Errorf("nothing sent to %v", from)
		}
	}
	if !one.has(TraceSend, "elsewhere") {
		t.Error("the challenge did not go elsewhere")
	}
	ids := make(map[wire.ID]bool)
	for _, p := range one.find(func(p *Traced) bool { return true }) {
		if bytes.Contains(p.Data, []byte(secret)) {
			t.Error("a trace shows a datagram in clear")
		}
		if p.Stage != TraceServer || p.Total != len(p.Data) || p.Length != len(p.Data) || p.Data[0] != wire.TypeData || p.Local.Port() != srv.Addr().Port() || p.ID.IsZero() {
			t.Errorf("traced %+v", p)
		}
		if p.Verdict == "deliver" {
			ids[p.ID] = true
		}
	}
	if len(ids) < 2 {
		t.Errorf("the client moved, and its packets have the ids %v", ids)
	}
	if flags := flagsOf(t, srv, s); slices.Contains(flags, 0) {
		t.Errorf("flags %v", flags)
	}
	stopOne()
	if flags := flagsOf(t, srv, s); slices.Contains(flags, 0) {
		t.Errorf("with one that still looks: flags %v", flags)
	}
	stopTwo()
	if flags := flagsOf(t, srv, s); slices.ContainsFunc(flags, func(f maps.Flags) bool { return f != 0 }) {
		t.Errorf("when nobody looks any more: flags %v", flags)
	}
	before := len(one.packets)
	talk(t, s, c, "unseen")
	if len(one.packets) != before {
		t.Error("a tap was called after its stop")
	}
}

// What does not open is shown with the reason, and the end of the session ends the trace.
func TestTraceEnd(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	var l tapped
	stop := s.Trace(l.tap)
	defer stop()
	forged := make([]byte, 60)
	wire.PutDataHeader(forged[:wire.HeaderLen], 1000, s.Info().LocalID)
	c.sockets[0].send(forged)
	eventually(t, "the forged packet is shown", func() bool { return l.has("drop", "auth_failed") })
	if err := s.Close(wire.CloseDone, "enough"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end is told", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.ended > 0
	})
	late := make(chan *Traced, 1)
	s.Trace(func(p *Traced) { late <- p })
	if p := <-late; p != nil || l.ended != 1 {
		t.Errorf("a trace of what has ended got %+v; the end was told %d times", p, l.ended)
	}
}
