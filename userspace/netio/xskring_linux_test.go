// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"math"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// twoSides returns our side of a ring in plain memory and the shared counts, which
// stand at start: the test is the kernel.
func twoSides(size, start uint32) (r ring[uint64], producer, consumer *uint32) {
	at := unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 192}
	words := make([]uint64, ringBytes[uint64](at, size)/8)
	memory := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)
	r = newRing[uint64](memory, at, size)
	*r.producer, *r.consumer, r.ours, r.theirs = start, start, start, start
	return r, r.producer, r.consumer
}

// The counts run over at 2^32, like any other.
var starts = []uint32{0, 5, math.MaxUint32 - 3}

func TestRingConsumes(t *testing.T) {
	for _, start := range starts {
		r, producer, consumer := twoSides(8, start)
		if n := r.available(4); n != 0 {
			t.Fatalf("%d in an empty ring", n)
		}
		next, want := uint64(0), uint64(0)
		for range 10 { // the kernel brings 6, we take 4 and 2
			for range 6 {
				r.descs[*producer&r.mask] = next
				atomic.AddUint32(producer, 1)
				next++
			}
			for _, n := range []uint32{4, 2} {
				if got := r.available(4); got != n {
					t.Fatalf("%d available, want %d", got, n)
				}
				for i := range n {
					if got := *r.at(i); got != want {
						t.Fatalf("descriptor %d, want %d", got, want)
					}
					want++
				}
				r.consume(n)
			}
			if *consumer != *producer {
				t.Fatalf("consumed up to %d of %d", *consumer, *producer)
			}
		}
		*producer += 9 // more than it has places
		if n := r.available(4); n != 0 {
			t.Errorf("%d available of a count that cannot be", n)
		}
	}
}

func TestRingProduces(t *testing.T) {
	for _, start := range starts {
		r, producer, consumer := twoSides(8, start)
		next, want := uint64(0), uint64(0)
		for round := range 10 {
			for _, n := range []uint32{5, 3, 0} { // 8 places
				got := r.room(5)
				if got != n {
					t.Fatalf("round %d: room for %d, want %d", round, got, n)
				}
				for i := range got {
					*r.at(i) = next
					next++
				}
				r.produce(got)
			}
			for *consumer != *producer {
				if got := r.descs[*consumer&r.mask]; got != want {
					t.Fatalf("descriptor %d, want %d", got, want)
				}
				want++
				atomic.AddUint32(consumer, 1)
			}
		}
		*consumer += 1 // more than were there
		r.theirs = *consumer
		if n := r.room(8); n != 0 {
			t.Errorf("room for %d by a count that cannot be", n)
		}
	}
}

func TestRingNeedsWakeup(t *testing.T) {
	r, _, _ := twoSides(4, 0)
	if r.needWakeup() {
		t.Error("nobody asked")
	}
	*r.flags = unix.XDP_RING_NEED_WAKEUP
	if !r.needWakeup() {
		t.Error("the kernel asked")
	}
}

func TestXSKFrameSize(t *testing.T) {
	for mtu, want := range map[int]int{68: 2048, 1500: 2048, 1770: 2048, 1771: 4096, 3498: 4096} {
		if got := XSKFrameSize(mtu); got != want {
			t.Errorf("MTU %d: frames of %d bytes, want %d", mtu, got, want)
		}
	}
}
