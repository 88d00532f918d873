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
	if len(r.Rows) != 3 {
		t.Errorf("rows: %+v", r.Rows)
	}
	for _, row := range r.Rows {
		if row.Row != 13 || row.Value <= 0 {
			t.Errorf("%+v", row)
		}
	}
}
