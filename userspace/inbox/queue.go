// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync"
)

// queue is datagrams one after the other in blocks of memory. It has blocks only
// while it holds something, so that an idle session costs none, and it grows by
// another block, so that nothing is copied twice.
type queue struct {
	first, last *block // nil while empty and nothing is reserved
	used        int32  // bytes in records
	limitBits   uint8  // logarithm of how many there may be
	reserved    bool   // last stays, whatever is taken: someone writes behind what is in it
}

// Each record is its length in two bytes and the datagram, all in one block.
const recordHeader = 2

// maxReserve is the most that is reserved at a time: what a usual block has room for.
const maxReserve = 1 << busyBlockBits

// block is memory of a power of two bytes, recycled by size. It is only ever written
// behind what was written, so what lies in it stays as it is until it is recycled.
type block struct {
	next          *block
	read, written int
	lent          int // loans that point into it
	bytes         []byte
}

// A queue's first block is small, since most hold a few datagrams; the larger
// ones spare a busy queue the way to the pool. The largest has room for any record.
const (
	minBlockBits  = 12
	busyBlockBits = 16
	maxBlockBits  = 17
)

// Limits of a queue.
const (
	minLimit = 1 << minBlockBits
	maxLimit = 1 << 24
)

var pools [maxBlockBits - minBlockBits + 1]sync.Pool

func getBlock(sizeBits int) *block {
	if b, ok := pools[sizeBits-minBlockBits].Get().(*block); ok {
		return b
	}
	return &block{bytes: make([]byte, 1<<sizeBits)}
}

func putBlock(b *block) {
	b.next, b.read, b.written = nil, 0, 0
	pools[bits.TrailingZeros(uint(len(b.bytes)))-minBlockBits].Put(b)
}

// queueLimit rounds a configured size to what a queue can have, and returns its binary
// logarithm.
func queueLimit(bytes int) uint8 {
	return uint8(bits.Len(uint(min(max(bytes, minLimit), maxLimit))) - 1)
}

// room is how many bytes of records may be added. The zero queue has none for any.
func (q *queue) room() int { return 1<<q.limitBits - int(q.used) }

func (q *queue) empty() bool { return q.used == 0 }

// reserve returns the room behind the last record, if there is any for need bytes of
// records, or for as many as are reserved at a time, and keeps its block until release.
func (q *queue) reserve(need int) []byte {
	if need = min(need, maxReserve); q.room() < need {
		return nil
	}
	b := q.last
	if b == nil || len(b.bytes)-b.written < need {
		b = q.grow(need)
	}
	q.reserved = true
	return b.bytes[b.written:]
}

// release ends what reserve began.
func (q *queue) release() {
	q.reserved = false
	q.trim()
}

// put copies a datagram in, unless it is there already, and reports whether there
// was room.
func (q *queue) put(datagram []byte) bool {
	need := recordHeader + len(datagram)
	if len(datagram) > math.MaxUint16 || q.room() < need {
		return false
	}
	b := q.last
	if b == nil || len(b.bytes)-b.written < need {
		b = q.grow(need)
	}
	record := b.bytes[b.written : b.written+need]
	binary.BigEndian.PutUint16(record, uint16(len(datagram)))
	if len(datagram) > 0 && &datagram[0] != &record[recordHeader] {
		copy(record[recordHeader:], datagram)
	}
	b.written += need
	q.used += int32(need)
	return true
}

// take takes the oldest datagram out of a queue that is not empty and returns its
// length. What does not fit into p is lost.
func (q *queue) take(p []byte) int {
	_, d := q.next()
	copy(p, d)
	q.trim()
	return len(d)
}

// lend takes the oldest datagram out of a queue that is not empty, for as long as l is
// not returned.
func (q *queue) lend(l *Loan) {
	b, d := q.next()
	l.datagrams = append(l.datagrams, d)
	if n := len(l.blocks); n == 0 || l.blocks[n-1] != b {
		l.blocks = append(l.blocks, b)
		b.lent++
	}
	q.trim()
}

// next is the oldest datagram, and its block, which keeps it until trim.
func (q *queue) next() (*block, []byte) {
	b := q.first
	for b.read == b.written {
		b = b.next // that one is lent
	}
	start := b.read + recordHeader
	b.read = start + int(binary.BigEndian.Uint16(b.bytes[b.read:]))
	q.used -= int32(b.read - start + recordHeader)
	return b, b.bytes[start:b.read:b.read]
}

// trim parts with the blocks that hold nothing: one that is lent is recycled when it is
// returned, and stays while there may be room in it.
func (q *queue) trim() {
	for b := q.first; b != nil && b.read == b.written; b = q.first {
		if b == q.last && (q.reserved || b.lent > 0) {
			return
		}
		if q.first = b.next; q.first == nil {
			q.last = nil
		}
		if b.lent == 0 {
			putBlock(b)
		}
	}
}

// unlend ends a loan of a block.
func (q *queue) unlend(b *block) {
	b.lent--
	switch {
	case b.lent > 0:
	case b == q.first:
		q.trim()
	case b.read == b.written: // trim has parted with it
		putBlock(b)
	}
}

// grow appends a block with room for a record.
func (q *queue) grow(need int) *block {
	sizeBits := minBlockBits
	if q.last != nil {
		sizeBits = min(bits.Len(uint(len(q.last.bytes))), busyBlockBits) // twice as large
	}
	b := getBlock(max(sizeBits, bits.Len(uint(need-1))))
	if q.last == nil {
		q.first = b
	} else {
		q.last.next = b
	}
	q.last = b
	return b
}
