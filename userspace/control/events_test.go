// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func names(t *testing.T, client *Client, q EventQuery) string {
	t.Helper()
	var have []string
	err := client.Events(t.Context(), q, func(e Event) error {
		have = append(have, e.Name)
		return nil
	})
	if err != nil {
		t.Errorf("%+v: %v", q, err)
	}
	return strings.Join(have, " ")
}

func TestEventQuery(t *testing.T) {
	start := time.Unix(1e9, 0)
	alice := Event{Session: wire.ID{0xaa}, Service: 7, Worker: 2, PeerKey: handshake.PublicKey{1}, PeerName: "alice"}
	bob := Event{Session: wire.ID{0xbb}, Service: 9, PeerKey: handshake.PublicKey{2}}
	events := new(Events)
	for i, e := range []struct {
		of          Event
		class, name string
	}{
		{alice, ClassSession, "opened"}, {bob, ClassMove, "committed"}, {Event{ID: wire.ID{0xab}}, ClassPacket, "drop"},
		{alice, ClassMove, "refused"}, {Event{}, ClassEdge, "rotated"},
	} {
		e.of.Class, e.of.Name, e.of.Time = e.class, e.name, start.Add(time.Duration(i)*time.Second)
		events.Record(e.of)
	}
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path, fixed{events: events})
	client := NewClient(path)
	for _, c := range []struct {
		query EventQuery
		want  string
	}{
		{EventQuery{}, "opened committed drop refused rotated"},
		{EventQuery{Last: 2}, "refused rotated"},
		{EventQuery{Last: -1}, ""},
		{EventQuery{Kinds: []string{ClassMove}}, "committed refused"},
		{EventQuery{Kinds: []string{"refused", ClassPacket}}, "drop refused"},
		{EventQuery{Sessions: []string{"a"}}, "opened drop refused"},
		{EventQuery{Sessions: []string{"aa"}, Kinds: []string{ClassMove}}, "refused"},
		{EventQuery{Peers: []string{"alice"}}, "opened refused"},
		{EventQuery{Services: []uint16{9}}, "committed"},
		{EventQuery{Workers: []int{2}}, "opened refused"},
		{EventQuery{Workers: []int{0}}, "committed"}, // and not what is of no worker
		{EventQuery{Since: start.Add(3 * time.Second)}, "refused rotated"},
	} {
		if have := names(t, client, c.query); have != c.want {
			t.Errorf("%+v: %q, want %q", c.query, have, c.want)
		}
	}
	if err := client.Events(t.Context(), EventQuery{Sessions: []string{"?"}}, nil); !errors.Is(err, ErrQuery) {
		t.Error(err)
	}
}

// What floods one class pushes nothing out of another.
func TestEventsAreBounded(t *testing.T) {
	var events Events
	events.Record(Event{Class: ClassAlarm, Name: "first"})
	for i := range 3 * remembered {
		events.Record(Event{Class: ClassPacket, Name: fmt.Sprint(i)})
	}
	all, last, lost := events.after(0, func(*Event) bool { return true })
	if len(all) != remembered+1 || all[0].Name != "first" || all[1].Name != fmt.Sprint(2*remembered) || last != 3*remembered+1 || lost != 2*remembered {
		t.Errorf("%d events from %q on, the last has number %d, %d are lost", len(all), all[0].Name, last, lost)
	}
	if !slices.IsSortedFunc(all, func(a, b Event) int { return int(a.Number) - int(b.Number) }) {
		t.Error("out of order")
	}
}

// Who follows sees what happens from then on, and how much was missed.
func TestFollowEvents(t *testing.T) {
	events := new(Events)
	events.Record(Event{Class: ClassMove, Name: "before"})
	path := filepath.Join(t.TempDir(), "s")
	server := serve(t, path, fixed{events: events})
	seen := make(chan Event)
	ended := make(chan error, 1)
	go func() {
		ended <- NewClient(path).Events(context.Background(), EventQuery{Follow: true, Last: 1}, func(e Event) error {
			seen <- e
			return nil
		})
	}()
	if e := <-seen; e.Name != "before" {
		t.Errorf("first %+v", e)
	}
	events.Record(Event{Class: ClassMove, Name: "after"})
	if e := <-seen; e.Name != "after" || e.Lost != 0 {
		t.Errorf("then %+v", e)
	}
	server.Close()
	if err := <-ended; !errors.Is(err, ErrNotRunning) {
		t.Errorf("at the daemon's end: %v", err)
	}
}

// A follower that stands still while more happens than is kept learns of it.
func TestFollowerMissesEvents(t *testing.T) {
	var events Events
	ctx, cancel := context.WithCancel(t.Context())
	events.Record(Event{Class: ClassMove})
	var have []uint64
	err := events.follow(ctx, &EventQuery{Follow: true}, func(e *Event) error {
		have = append(have, e.Lost)
		if len(have) == 1 {
			for range remembered + 5 { // while it writes the first
				events.Record(Event{Class: ClassMove})
			}
		}
		if len(have) == 1+remembered {
			cancel()
		}
		return nil
	}, func() error { return nil })
	if err != nil || len(have) != 1+remembered || have[0] != 0 || have[1] != 5 || have[2] != 0 {
		t.Errorf("%v: %d events, missed before them: %v", err, len(have), have[:min(3, len(have))])
	}
}

// A follower that goes away is forgotten.
func TestFollowerGoes(t *testing.T) {
	var events Events
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := events.follow(ctx, &EventQuery{Follow: true}, nil, func() error { return nil }); err != nil || len(events.followers) != 0 {
		t.Errorf("%v, %d followers", err, len(events.followers))
	}
}

// Recording is what a move pays for being told of.
func BenchmarkRecord(b *testing.B) {
	var events Events
	e := Event{Class: ClassMove, Name: "roam_committed", Time: time.Now(), Session: wire.ID{1}}
	b.ReportAllocs()
	for b.Loop() {
		events.Record(e)
	}
}
