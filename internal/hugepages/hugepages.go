// SPDX-License-Identifier: Apache-2.0

// Package hugepages puts the memory of a process that has grown large on huge pages.
//
// A million sessions are gigabytes of small objects that are visited in no order. On
// pages of 4 KiB each visit misses the TLB a dozen times, and the page tables do not fit
// into the cache either. Unasked, the kernel only uses huge pages where
// transparent_hugepage is "always", which it is not on most distributions.
package hugepages

import "time"

// Size is that of a huge page, in bytes.
const Size = 2 << 20

const (
	// share is what Step may take of one CPU's time: one in share.
	share = 20
	// stepTime is after what time a Step ends, give or take a few huge pages.
	stepTime = 10 * time.Millisecond
	// settled is how long Step rests when it has been through all memory.
	settled = 10 * time.Second
)

// Collapser replaces small pages by huge ones. The zero value is ready to use, by one
// goroutine at a time. On anything but Linux it does nothing.
//
// It asks for a huge page only where nearly all of its small ones are in use
// (MADV_COLLAPSE, Linux 6.1). So memory does not grow, and what Go's runtime has given
// back to the kernel stays there. To advise the kernel once and for all instead
// (MADV_HUGEPAGE) has it fill such gaps up again: golang.org/issue/55328.
//
// Whoever touches a huge page that is being made waits for it, half a millisecond or so.
type Collapser struct {
	next uintptr   // address that it goes on at
	rest time.Time // until when Step does nothing
	room room
}

// Step makes some huge pages; it is to be called every second or so. It does nothing
// while it has used up its part of the CPU, or where an operator has forbidden huge
// pages (transparent_hugepage is "never"). It does its best and never fails: memory that
// the kernel has no huge page for works as before.
func (c *Collapser) Step() {
	now := time.Now()
	if now.Before(c.rest) {
		return
	}
	pause := time.Duration(0)
	if through := c.advance(now.Add(stepTime)); through {
		pause = settled
	}
	c.rest = now.Add(max(pause, share*time.Since(now)))
}

// Finish does at once what Step does bit by bit.
func (c *Collapser) Finish() {
	c.next = 0
	for !c.advance(time.Now().Add(time.Hour)) {
	}
}
