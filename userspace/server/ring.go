// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/binary"
	"io"
	"math/bits"
	"sync"
)

// ring holds the datagrams of one session that wait for their reader, in the
// order in which they came. It has memory only while it holds something, so
// that an idle session costs none, and it never blocks the worker: what does
// not fit is dropped, as any datagram may be.
type ring struct {
	mu     sync.Mutex
	mem    *ringMemory // nil while empty
	head   int         // where the oldest record starts
	used   int         // bytes in records
	limit  int         // most bytes of mem, a power of two
	closed bool
	// waiting counts readers that found the ring empty. Only for them a
	// token is put into ready, so a busy session uses no channel.
	waiting int
	ready   chan struct{} // made by the first reader that waits
}

// Each record is its length in two bytes and the datagram.
const recordHeader = 2

// ringMemory is a power of two bytes, recycled by size.
type ringMemory struct{ bytes []byte }

const (
	ringMinBits = 12
	ringMaxBits = 24
)

var ringPools [ringMaxBits - ringMinBits + 1]sync.Pool

func getRingMemory(size int) *ringMemory {
	class := bits.TrailingZeros(uint(size)) - ringMinBits
	if m, ok := ringPools[class].Get().(*ringMemory); ok {
		return m
	}
	return &ringMemory{bytes: make([]byte, size)}
}

func putRingMemory(m *ringMemory) {
	ringPools[bits.TrailingZeros(uint(len(m.bytes)))-ringMinBits].Put(m)
}

// ringLimit rounds a configured size to what a ring can have.
func ringLimit(bytes int) int {
	bytes = min(max(bytes, 1<<ringMinBits), 1<<ringMaxBits)
	return 1 << (bits.Len(uint(bytes)) - 1)
}

// push copies a datagram in and reports whether there was room.
func (r *ring) push(datagram []byte) bool {
	need := recordHeader + len(datagram)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(datagram) > 1<<16-1 || r.used+need > r.limit {
		return false
	}
	if r.mem == nil || r.used+need > len(r.mem.bytes) {
		r.grow(r.used + need)
	}
	var length [recordHeader]byte
	binary.BigEndian.PutUint16(length[:], uint16(len(datagram)))
	r.copyIn(length[:])
	r.copyIn(datagram)
	if r.waiting > 0 {
		r.wake()
	}
	return true
}

// wake lets one waiting reader look again.
func (r *ring) wake() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// pop takes the oldest datagram out. ok is false when there is none. What does
// not fit into p is lost, with io.ErrShortBuffer.
func (r *ring) pop(p []byte) (n int, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used == 0 {
		return 0, false, nil
	}
	var header [recordHeader]byte
	r.copyOut(header[:])
	length := int(binary.BigEndian.Uint16(header[:]))
	n = min(length, len(p))
	r.copyOut(p[:n])
	r.skip(length - n)
	if r.used == 0 {
		putRingMemory(r.mem)
		r.mem, r.head = nil, 0
	} else if r.waiting > 0 {
		r.wake()
	}
	if n < length {
		err = io.ErrShortBuffer
	}
	return n, true, err
}

// wait announces a reader that is about to wait and returns what to wait for.
// done takes the announcement back.
func (r *ring) wait() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready == nil {
		r.ready = make(chan struct{}, 1)
	}
	r.waiting++
	if r.used > 0 {
		r.wake()
	}
	return r.ready
}

func (r *ring) done() {
	r.mu.Lock()
	r.waiting--
	r.mu.Unlock()
}

// close refuses further datagrams; those inside can still be read.
func (r *ring) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
}

func (r *ring) grow(need int) {
	size := 1 << max(bits.Len(uint(need-1)), ringMinBits)
	m := getRingMemory(size)
	if old := r.mem; old != nil {
		n := copy(m.bytes, old.bytes[r.head:min(r.head+r.used, len(old.bytes))])
		copy(m.bytes[n:], old.bytes[:r.used-n])
		putRingMemory(old)
	}
	r.mem, r.head = m, 0
}

func (r *ring) copyIn(p []byte) {
	b := r.mem.bytes
	at := (r.head + r.used) & (len(b) - 1)
	n := copy(b[at:], p)
	copy(b, p[n:])
	r.used += len(p)
}

func (r *ring) copyOut(p []byte) {
	b := r.mem.bytes
	n := copy(p, b[r.head:])
	copy(p[n:], b)
	r.skip(len(p))
}

func (r *ring) skip(n int) {
	r.head = (r.head + n) & (len(r.mem.bytes) - 1)
	r.used -= n
}
