// SPDX-License-Identifier: Apache-2.0

//go:build linux

package intake

import (
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// Every row can be measured: frames take the way that they are meant to, and the
// worker knows the session of each, which the measurement insists on. The times are
// another matter.
func TestRows(t *testing.T) {
	testutil.RequirePrivileged(t)
	o := Options{Pairs: 2, Frames: 20_000, Sessions: 1 << 10}
	r, err := Measure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]int{}
	for _, row := range r.Rows {
		got[row.Row]++
		if len(row.Runs) != o.Pairs || row.Peer.Value <= 0 || row.Peer.Ours <= 0 {
			t.Errorf("row %d: %+v against %+v", row.Row, row, row.Peer)
		}
	}
	if got[7] != 2 || got[8] != 2 || len(got) != 2 {
		t.Errorf("rows: %v", got)
	}
}

func TestSteering(t *testing.T) {
	testutil.RequirePrivileged(t)
	r, err := MeasureSteering(t.Context(), Options{Pairs: 1, Frames: 20_000, Sessions: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 1 || r.Rows[0].Row != 19 || r.Rows[0].Peer.Ours <= 0 {
		t.Errorf("%+v", r.Rows)
	}
}

func TestCPUMap(t *testing.T) {
	testutil.RequirePrivileged(t)
	r, err := MeasureCPUMap(t.Context(), Options{Pairs: 1, Frames: 20_000, Sessions: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 0 || len(r.Asides) != 1 || r.Asides[0].Row != 7 || r.Asides[0].Peer.Ours <= 0 {
		t.Errorf("%+v, beside: %+v", r.Rows, r.Asides)
	}
}

// Trains reach all three, and the two with sessions know them.
func TestTrains(t *testing.T) {
	testutil.RequirePrivileged(t)
	r, err := MeasureTrains(t.Context(), Options{Pairs: 2, Frames: 20_000, Sessions: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 1 || r.Rows[0].Row != 19 || r.Rows[0].Value <= 0 || len(r.Asides) != 5 {
		t.Errorf("%+v, beside: %+v", r.Rows, r.Asides)
	}
}
