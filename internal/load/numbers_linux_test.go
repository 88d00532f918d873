// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// flow is the numbered datagrams of one session in one direction.
type flow struct {
	tag  uint64 // tells flows apart
	size int
	// batch is how many are sent at a time.
	batch int
	sent  atomic.Uint64 // numbers from 0; counted just before

	// Of the one goroutine that receives.
	seen      []uint64 // a bit for each number
	fault     error    // the first
	delivered atomic.Uint64
}

const numberedHeader = 16

// number makes p the datagram of a number: that, the tag, and bytes that follow from both.
func (f *flow) number(p []byte, n uint64) {
	binary.LittleEndian.PutUint64(p, n)
	binary.LittleEndian.PutUint64(p[8:], f.tag)
	for i := numberedHeader; i < len(p); i++ {
		p[i] = byte(n) ^ byte(i)
	}
}

// receive takes a datagram of the flow, which must be one that was sent, whole and
// for the first time.
func (f *flow) receive(p []byte) {
	err := f.check(p)
	if err != nil && f.fault == nil {
		f.fault = err
	}
	f.delivered.Add(1)
}

func (f *flow) check(p []byte) error {
	if len(p) != f.size {
		return fmt.Errorf("a datagram of %d bytes, not %d", len(p), f.size)
	}
	n, tag := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
	if tag != f.tag {
		return fmt.Errorf("a datagram of flow %#x came in flow %#x", tag, f.tag)
	}
	for i := numberedHeader; i < len(p); i++ {
		if p[i] != byte(n)^byte(i) {
			return fmt.Errorf("datagram %d was changed at byte %d", n, i)
		}
	}
	if n >= f.sent.Load() {
		return fmt.Errorf("datagram %d was never sent", n)
	}
	for uint64(len(f.seen)) <= n/64 {
		f.seen = append(f.seen, 0)
	}
	bit := uint64(1) << (n % 64)
	if f.seen[n/64]&bit != 0 {
		return fmt.Errorf("datagram %d was delivered twice", n)
	}
	f.seen[n/64] |= bit
	return nil
}
