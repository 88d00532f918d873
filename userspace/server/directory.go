// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"sync/atomic"

	"github.com/xdp-roam/xdp-roam/internal/prefetch"
)

// directory finds the session of an id by the slot that the id names, as the
// data plane finds the slot: no hash, no lock, and, by slot, no pointer, so
// that the garbage collector has nothing to walk in the large array.
//
// What it returns is a hint: slot and number may have been given to another
// session since the caller looked at the id. The session checks the id itself.
type directory struct {
	numbers []atomic.Uint32 // by slot: the session's number, 0 for none
	slabs   []atomic.Pointer[slab]

	mu   sync.Mutex
	free []uint32 // numbers to use again
	last uint32   // largest number ever used
}

const slabBits = 12

type slab [1 << slabBits]atomic.Pointer[Session]

// newDirectory makes room for slots; there are never more sessions than those.
func newDirectory(slots uint32) *directory {
	return &directory{
		numbers: make([]atomic.Uint32, slots),
		slabs:   make([]atomic.Pointer[slab], slots>>slabBits+1),
	}
}

// reserve gives out a number, from 1, that leads to no session yet.
func (d *directory) reserve() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if k := len(d.free); k > 0 {
		n := d.free[k-1]
		d.free = d.free[:k-1]
		return n
	}
	d.last++
	if p := &d.slabs[d.last>>slabBits]; p.Load() == nil {
		p.Store(new(slab))
	}
	return d.last
}

// publish makes a reserved number lead to s.
func (d *directory) publish(n uint32, s *Session) {
	d.slabs[n>>slabBits].Load()[n&(1<<slabBits-1)].Store(s)
}

// remove takes a reserved number back; its slots have been unset before.
func (d *directory) remove(n uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slabs[n>>slabBits].Load()[n&(1<<slabBits-1)].Store(nil)
	d.free = append(d.free, n)
}

// set makes slot lead to session n; 0 to none.
func (d *directory) set(slot, n uint32) { d.numbers[slot].Store(n) }

// touch asks the processor for what at looks at first.
func (d *directory) touch(slot uint32) { prefetch.Object(&d.numbers[slot]) }

// at returns the session that slot leads to, or nil.
func (d *directory) at(slot uint32) *Session {
	n := d.numbers[slot].Load()
	if n == 0 {
		return nil
	}
	return d.slabs[n>>slabBits].Load()[n&(1<<slabBits-1)].Load()
}

// each calls f for every session until f returns false. Sessions that come or
// go meanwhile may be missed.
func (d *directory) each(f func(*Session) bool) {
	d.mu.Lock()
	last := d.last
	d.mu.Unlock()
	for n := uint32(1); n <= last; n++ {
		if s := d.slabs[n>>slabBits].Load()[n&(1<<slabBits-1)].Load(); s != nil && !f(s) {
			return
		}
	}
}

// len returns the number of sessions.
func (d *directory) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int(d.last) - len(d.free)
}
