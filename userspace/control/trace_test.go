// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A trace is of exactly one session, in order, cut as asked, and ends with it.
func TestTrace(t *testing.T) {
	one, other := wire.ID{0xab, 1}, wire.ID{0xab, 2}
	path := filepath.Join(t.TempDir(), "edge.sock")
	serve(t, path, fixed{sessions: []Session{{ID: one, State: StateOpen, PacketsReceived: 3}, {ID: other, State: StateOpen}}})
	c, ctx := NewClient(path), context.Background()
	var got []Packet
	collect := func(p Packet) error {
		got = append(got, p)
		return nil
	}
	if err := c.Trace(ctx, one.String(), 9, collect); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("%d packets, want 3", len(got))
	}
	for i, p := range got {
		if p.Session != one || p.Counter == nil || *p.Counter != uint64(1<<8+i) || len(p.Data) != 9 || p.Total != 10 || p.Lost != 0 {
			t.Errorf("packet %d: %+v", i, p)
		}
	}
	for _, id := range []string{"ab", "cd"} { // two sessions, none
		if err := c.Trace(ctx, id, 0, collect); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", id, err)
		}
	}
	if err := c.Trace(ctx, "xy", 0, collect); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("not hexadecimal: %v", err)
	}
	enough := errors.New("enough")
	if err := c.Trace(ctx, one.String(), 0, func(Packet) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v, want the reader's error", err)
	}
	if err := NewClient(path+"x").Trace(ctx, "ab", 0, collect); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v, want ErrNotRunning", err)
	}
}

// Who does not keep up misses packets, is told how many, and holds nobody up.
func TestTraceLoses(t *testing.T) {
	live := &fixedSession{session: &Session{PacketsReceived: traceQueue + 7}}
	packets, lost := 0, uint64(0)
	err := trace(context.Background(), live, 0, func(p *Packet) error {
		packets++
		lost += p.Lost
		return nil
	}, func() error { return nil })
	if err != nil || packets != traceQueue || lost != 7 {
		t.Errorf("%d packets, %d lost, %v", packets, lost, err)
	}
}
