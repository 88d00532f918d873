// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync/atomic"
	"time"
)

// SwitchBounds are the upper bounds, inclusive, of the buckets of Stats.Switches but
// for the last one, which has none. A switch is a round trip to the client, and more
// where packets are lost: a retransmission comes after a PTO.
var SwitchBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// Histogram counts durations by bucket.
type Histogram struct {
	// Buckets holds those of at most SwitchBounds[i] that are above the bound before;
	// the last one those above all.
	Buckets [len(SwitchBounds) + 1]uint64
	Sum     time.Duration
}

// Count is how many it has counted.
func (h *Histogram) Count() (n uint64) {
	for _, bucket := range h.Buckets {
		n += bucket
	}
	return n
}

// histogram is a Histogram that several goroutines add to.
type histogram struct {
	buckets [len(SwitchBounds) + 1]atomic.Uint64
	sum     atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(SwitchBounds) && d > SwitchBounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

func (h *histogram) read() Histogram {
	r := Histogram{Sum: time.Duration(h.sum.Load())}
	for i := range h.buckets {
		r.Buckets[i] = h.buckets[i].Load()
	}
	return r
}
