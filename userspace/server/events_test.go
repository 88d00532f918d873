// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// eventLog gathers what Config.Events gets.
type eventLog struct {
	mu     sync.Mutex
	events []Event
}

func (l *eventLog) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *eventLog) names() (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		names = append(names, e.Name)
	}
	return names
}

// What happens to a session is told in its order, and of whom.
func TestEvents(t *testing.T) {
	var log eventLog
	srv := listen(t, func(c *Config) { c.Events = log.add })
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "at home")
	home := s.RemoteAddr()
	c.move(c.addSocket("127.0.0.2", srv))
	talk(t, s, c, "abroad")
	wantPath(t, srv, s, c, 1)
	var ids []wire.ID
	srv.EachSession(func(each *Session) bool {
		ids = append(ids, each.ID())
		return each == s
	})
	if len(ids) != 1 || ids[0] != s.ID() || !slices.Contains(s.IDs(), s.Info().LocalID) {
		t.Errorf("sessions %v, ids %v", ids, s.IDs())
	}
	if id := s.Info().LocalID; srv.SessionOf(id) != s.ID() || !srv.SessionOf(wire.ID{1}).IsZero() {
		t.Error("the session of an id is not found")
	}
	if err := s.Close(wire.CloseDone, "enough"); err != nil {
		t.Fatal(err)
	}
	want := []string{"session_opened", "roam_started", "roam_committed", "session_closed"}
	if have := log.names(); !slices.Equal(have, want) {
		t.Fatalf("events %v, want %v", have, want)
	}
	for _, e := range log.events {
		if e.Session != s.ID() || e.PeerKey != s.PeerKey() || e.Service != s.Service() || time.Since(e.Time).Abs() > time.Minute {
			t.Errorf("%+v", e)
		}
	}
	if moved := log.events[2]; moved.From != home || moved.Path != s.RemoteAddr() {
		t.Errorf("moved from %v to %v", moved.From, moved.Path)
	}
	if closed := log.events[3]; closed.Reason != "done: enough" {
		t.Errorf("closed because %q", closed.Reason)
	}
}

// A refused client is told of, with what it is known by.
func TestRefusalEvent(t *testing.T) {
	var log eventLog
	srv := listen(t, func(c *Config) {
		c.Events = log.add
		c.HasService = func(uint16) bool { return false }
	})
	init, cfg := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Static = handshake.NewPrivateKey() })
	socket := newSocket(t, "127.0.0.1", srv)
	if reply, _ := exchange(t, socket, init); reply.Status != wire.StatusNoService {
		t.Fatalf("answer %v", reply.Status)
	}
	if have := log.names(); !slices.Equal(have, []string{"session_refused"}) {
		t.Fatalf("events %v", have)
	}
	if e := log.events[0]; e.PeerKey != cfg.Static.Public() || e.Path != socket.conn.LocalAddr() || e.Reason == "" {
		t.Errorf("%+v", e)
	}
}

// A session that moves without end has only so many events; the counter has all.
func TestEventsOfOneSessionAreBounded(t *testing.T) {
	var log eventLog
	srv := listen(t, func(c *Config) { c.Events = log.add })
	dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	now := srv.clock.now()
	s.mu.Lock()
	told := 0
	for range 10 * moveBurst {
		if s.mayTell(now) {
			told++
		}
	}
	s.mu.Unlock()
	if told == 0 || told > moveBurst+1 || srv.Stats().LogDropped < 9*moveBurst-1 {
		t.Errorf("%d of %d are told, %d counted as not told", told, 10*moveBurst, srv.Stats().LogDropped)
	}
}

// The packets of the workers add up to what the server has counted.
func TestWorkers(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Workers = 2 })
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "hello")
	newSocket(t, "127.0.0.1", srv).send([]byte{0}) // what no protocol begins with, or too short
	eventually(t, "the packet is dropped", func() bool {
		dropped := uint64(0)
		for _, w := range srv.Workers() {
			dropped += w.Dropped
		}
		return dropped == 1
	})
	if workers := srv.Workers(); len(workers) != 2 || workers[1].Worker != 1 || workers[0].Packets["main"]+workers[1].Packets["main"] < 3 {
		t.Errorf("%+v", workers)
	}
}
