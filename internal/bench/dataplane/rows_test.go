// SPDX-License-Identifier: Apache-2.0

//go:build linux

package dataplane

import (
	"runtime"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// Every row can be measured: the programs load under the harness and each run
// has the verdict that the row is about, which the measurements insist on. The
// times are another matter.
func TestRows(t *testing.T) {
	testutil.RequirePrivileged(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	o := Options{Pairs: 5, Runs: 2000, Largest: smallTable}
	r, err := Measure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// These rows are of tables that take long to fill.
	p, err := newPlane(o, smallTable)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, row := range []func(*report.Results) error{
		func(r *report.Results) error { return p.random(t.Context(), r) },
		func(r *report.Results) error { return p.lookup(t.Context(), r) },
	} {
		if err := row(&r); err != nil {
			t.Fatal(err)
		}
	}
	got := map[int]int{}
	for _, row := range r.Rows {
		got[row.Row]++
		want := o.Pairs
		if row.Row == 5 {
			want *= dropLoads
		}
		if len(row.Runs) != want {
			t.Errorf("row %d has %d runs, want %d", row.Row, len(row.Runs), want)
		}
	}
	for row, n := range map[int]int{1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2} {
		if got[row] != n {
			t.Errorf("row %d is there %d times, want %d", row, got[row], n)
		}
	}
	if len(r.Asides) != 2 { // of rows 3 and 4
		t.Errorf("asides: %+v", r.Asides)
	}
}
