// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is one of an AF_XDP socket's four rings: a power of two of descriptors in
// memory shared with the kernel, between a producer's and a consumer's running
// count. Each count has one writer: ours is kept here too, and theirs is read
// only when the copy of it runs out, since its cache line is the kernel's.
//
// The descriptors that we produce must be visible before the count, and those
// that we consume read before it: sync/atomic orders both (it is sequentially
// consistent, which is more than the acquire and release that are needed).
type ring[T any] struct {
	producer, consumer *uint32 // shared
	flags              *uint32 // the kernel's; shared
	descs              []T     // shared
	mask               uint32

	ours   uint32 // our count, as published or about to be
	theirs uint32 // the kernel's count, as last read
}

// newRing finds a ring in the memory that the kernel has mapped for it.
func newRing[T any](memory []byte, at unix.XDPRingOffset, size uint32) ring[T] {
	base := unsafe.Pointer(unsafe.SliceData(memory))
	return ring[T]{
		producer: (*uint32)(unsafe.Add(base, at.Producer)), consumer: (*uint32)(unsafe.Add(base, at.Consumer)),
		flags: (*uint32)(unsafe.Add(base, at.Flags)),
		descs: unsafe.Slice((*T)(unsafe.Add(base, at.Desc)), size), mask: size - 1,
	}
}

// ringBytes is how much memory a ring takes.
func ringBytes[T any](at unix.XDPRingOffset, size uint32) int {
	var t T
	return int(at.Desc) + int(size)*int(unsafe.Sizeof(t))
}

// available returns how many descriptors the kernel has produced, at most limit.
// What it says is not trusted: more than fit into the ring are none.
func (r *ring[T]) available(limit uint32) uint32 {
	n := r.theirs - r.ours
	if n < limit {
		r.theirs = atomic.LoadUint32(r.producer)
		n = r.theirs - r.ours
	}
	if n > uint32(len(r.descs)) {
		return 0
	}
	return min(n, limit)
}

// at returns the descriptor i places on: of those available, or of the room.
func (r *ring[T]) at(i uint32) *T { return &r.descs[(r.ours+i)&r.mask] }

// consume gives n descriptors back to the kernel to produce anew.
func (r *ring[T]) consume(n uint32) {
	r.ours += n
	atomic.StoreUint32(r.consumer, r.ours)
}

// room returns how many descriptors there is place to produce, at most limit.
func (r *ring[T]) room(limit uint32) uint32 {
	size := uint32(len(r.descs))
	n := size - (r.ours - r.theirs)
	if n < limit || n > size {
		r.theirs = atomic.LoadUint32(r.consumer)
		n = size - (r.ours - r.theirs)
	}
	if n > size {
		return 0
	}
	return min(n, limit)
}

// produce lets the kernel see the n descriptors that were written.
func (r *ring[T]) produce(n uint32) {
	r.ours += n
	atomic.StoreUint32(r.producer, r.ours)
}

// needWakeup reports whether the kernel goes on only after a system call.
func (r *ring[T]) needWakeup() bool {
	return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0
}
