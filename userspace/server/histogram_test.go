// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"
	"time"
)

// A bound belongs to the bucket below it, as Prometheus has it.
func TestHistogram(t *testing.T) {
	var h histogram
	for i, bound := range SwitchBounds {
		if i > 0 && bound <= SwitchBounds[i-1] {
			t.Fatalf("bound %d, %v, is not above the one before", i, bound)
		}
		h.observe(bound)
		h.observe(bound + 1)
	}
	got := h.read()
	var sum time.Duration
	for i, bound := range SwitchBounds {
		sum += 2*bound + 1
		if want := uint64(min(i, 1) + 1); got.Buckets[i] != want {
			t.Errorf("bucket %d has %d, want %d", i, got.Buckets[i], want)
		}
	}
	if n := got.Buckets[len(SwitchBounds)]; n != 1 || got.Sum != sum || got.Count() != uint64(2*len(SwitchBounds)) {
		t.Errorf("%d above all bounds, %d in all, sum %v of %v", n, got.Count(), got.Sum, sum)
	}
}
