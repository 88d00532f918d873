// SPDX-License-Identifier: Apache-2.0

//go:build linux

package worker

import (
	"os"
	"testing"
	"time"
)

// Every recorded datagram reaches the application, which the measurement insists on.
func TestMeasure(t *testing.T) {
	r, err := Measure(t.Context(), Options{Pairs: 1, Datagrams: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]int{}
	for _, row := range r.Rows {
		got[row.Row]++
	}
	if got[10] != 2 || got[17] != 1 || len(r.Asides) != 2 {
		t.Errorf("rows: %v, asides: %d", got, len(r.Asides))
	}
}

func TestProfile(t *testing.T) {
	files, err := Profile(t.Context(), t.TempDir(), 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if info, err := os.Stat(name); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(files) != 2 {
		t.Errorf("%v", files)
	}
}
