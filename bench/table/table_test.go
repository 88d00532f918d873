// SPDX-License-Identifier: Apache-2.0

//go:build linux

package table

import (
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

func TestMeasure(t *testing.T) {
	testutil.RequirePrivileged(t)
	r, err := Measure(t.Context(), Options{Pairs: 1, Slots: 1 << 16, Scan: 1 << 16, Load: 1 << 15, Writes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]int{}
	for _, row := range r.Rows {
		got[row.Row]++
		if row.Value <= 0 {
			t.Errorf("%+v", row)
		}
	}
	if got[13] != 3 || got[18] != 1 {
		t.Errorf("rows: %v", got)
	}
}
