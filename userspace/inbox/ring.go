// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"encoding/binary"
	"io"
	"math/bits"
	"sync"
)

// ring is a queue of datagrams in a ring of bytes. It has memory only while it
// holds something, so that an idle session costs none.
type ring struct {
	mem   *memory // nil while empty
	head  int     // where the oldest record starts
	used  int     // bytes in records
	limit int     // most bytes of mem, a power of two
}

// Each record is its length in two bytes and the datagram.
const recordHeader = 2

// memory is a power of two bytes, recycled by size.
type memory struct{ bytes []byte }

const (
	minBits = 12
	maxBits = 24
)

var pools [maxBits - minBits + 1]sync.Pool

func getMemory(size int) *memory {
	class := bits.TrailingZeros(uint(size)) - minBits
	if m, ok := pools[class].Get().(*memory); ok {
		return m
	}
	return &memory{bytes: make([]byte, size)}
}

func putMemory(m *memory) {
	pools[bits.TrailingZeros(uint(len(m.bytes)))-minBits].Put(m)
}

// ringLimit rounds a configured size to what a ring can have.
func ringLimit(bytes int) int {
	bytes = min(max(bytes, 1<<minBits), 1<<maxBits)
	return 1 << (bits.Len(uint(bytes)) - 1)
}

func (r *ring) empty() bool { return r.used == 0 }

// put copies a datagram in and reports whether there was room.
func (r *ring) put(datagram []byte) bool {
	need := recordHeader + len(datagram)
	if len(datagram) > 1<<16-1 || r.used+need > r.limit {
		return false
	}
	if r.mem == nil || r.used+need > len(r.mem.bytes) {
		r.grow(r.used + need)
	}
	var length [recordHeader]byte
	binary.BigEndian.PutUint16(length[:], uint16(len(datagram)))
	r.copyIn(length[:])
	r.copyIn(datagram)
	return true
}

// take takes the oldest datagram out of a ring that is not empty. What does not
// fit into p is lost, with io.ErrShortBuffer.
func (r *ring) take(p []byte) (n int, err error) {
	var header [recordHeader]byte
	r.copyOut(header[:])
	length := int(binary.BigEndian.Uint16(header[:]))
	n = min(length, len(p))
	r.copyOut(p[:n])
	r.skip(length - n)
	if r.empty() {
		putMemory(r.mem)
		r.mem, r.head = nil, 0
	}
	if n < length {
		err = io.ErrShortBuffer
	}
	return n, err
}

func (r *ring) grow(need int) {
	size := 1 << max(bits.Len(uint(need-1)), minBits)
	m := getMemory(size)
	if old := r.mem; old != nil {
		n := copy(m.bytes, old.bytes[r.head:min(r.head+r.used, len(old.bytes))])
		copy(m.bytes[n:], old.bytes[:r.used-n])
		putMemory(old)
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
