// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"runtime"
	"testing"

	"github.com/xdp-roam/xdp-roam/bench/report"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// Every row can be measured: the programs load under the harness and each run
// has the verdict that the row is about, which the measurements insist on. The
// times are another matter.
func TestRows(t *testing.T) {
	testutil.RequirePrivileged(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	o := options{pairs: 5, runs: 2000}
	rows, err := measureTable(o, smallTable)
	if err != nil {
		t.Fatal(err)
	}
	inits, err := measureInit(o)
	if err != nil {
		t.Fatal(err)
	}
	lookup, err := measureSmallLookup(o)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]int{}
	for _, r := range append(append(rows, inits...), lookup) {
		got[r.Row]++
		if len(r.Runs) != o.pairs {
			t.Errorf("row %d has %d runs, want %d", r.Row, len(r.Runs), o.pairs)
		}
	}
	for row, n := range map[int]int{1: 1, 3: 1, 4: 1, 5: 1, 6: 2} {
		if got[row] != n {
			t.Errorf("row %d is there %d times, want %d", row, got[row], n)
		}
	}
}

// measureSmallLookup is row 4 for a table that is quick to fill.
func measureSmallLookup(o options) (report.Row, error) {
	spec, err := productSpec()
	if err != nil {
		return report.Row{}, err
	}
	b, err := load("roam_xdp", spec, map[string]uint32{"slots": smallTable}, nil, o.runs)
	if err != nil {
		return report.Row{}, err
	}
	defer b.close()
	if err := b.configurePlane(nil); err != nil {
		return report.Row{}, err
	}
	if err := fillSlots(b.Maps["slots"]); err != nil {
		return report.Row{}, err
	}
	if err := b.giveFrame(dataPayload(), liveIDs); err != nil {
		return report.Row{}, err
	}
	return measureLookup(o, b, smallTable)
}
