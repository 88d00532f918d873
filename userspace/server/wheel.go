// SPDX-License-Identifier: Apache-2.0

package server

import (
	"math/bits"
	"sync"
	"time"
)

// wheelTick is the wheel's resolution: fine beside the least PTO of 10 ms, and
// coarse enough that a million sessions are no million wake-ups.
const wheelTick = 4 * time.Millisecond

const (
	wheelBits   = 8
	wheelSize   = 1 << wheelBits
	wheelLevels = 3
	wheelSpan   = 1 << (wheelBits * wheelLevels) // ticks; 18 hours
)

// timer is a session's place in its worker's wheel. The wheel's lock guards it.
type timer struct {
	next, prev *timer // nil while unarmed
	at         int64  // tick
	session    *Session
}

// wheel is a hierarchical timer wheel (Varghese and Lauck 1987, scheme 7): arming
// costs the same however many are armed. A deadline that moves to later is
// left where it is and armed anew when it fires, so that traffic, which puts
// deadlines off all the time, does not touch the wheel at all.
type wheel struct {
	mu       sync.Mutex
	tick     int64 // all up to here have fired
	armed    int
	lists    [wheelLevels][wheelSize]timer // heads of circular lists
	occupied [wheelSize / 64]uint64        // level 0: which lists are not empty
	wakeAt   int64                         // tick that the worker's timekeeper sleeps until
	wake     chan struct{}                 // tells it that there is an earlier one
}

func newWheel(now time.Duration) *wheel {
	w := &wheel{tick: int64(now / wheelTick), wake: make(chan struct{}, 1)}
	w.wakeAt = w.tick + wheelSpan
	for l := range w.lists {
		for i := range w.lists[l] {
			h := &w.lists[l][i]
			h.next, h.prev = h, h
		}
	}
	return w
}

// arm makes t fire at the time or, where it is armed for an earlier one, then.
func (w *wheel) arm(t *timer, at time.Duration) {
	tick := int64((at + wheelTick - 1) / wheelTick) // never before its time
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.next != nil {
		if t.at <= tick {
			return
		}
		w.remove(t)
	}
	w.insert(t, tick)
	if t.at < w.wakeAt {
		w.wakeAt = t.at
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// disarm forgets t.
func (w *wheel) disarm(t *timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.next != nil {
		w.remove(t)
	}
}

// expire appends the sessions whose timers are due to due, unarmed.
func (w *wheel) expire(now time.Duration, due []*Session) []*Session {
	to := int64(now / wheelTick)
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.tick < to {
		if w.armed == 0 {
			w.tick = to
			break
		}
		w.tick++
		for level := 1; level < wheelLevels && w.tick&(1<<(wheelBits*level)-1) == 0; level++ {
			w.cascade(level)
		}
		head := &w.lists[0][w.tick&(wheelSize-1)]
		for head.next != head {
			t := head.next
			w.remove(t)
			due = append(due, t.session)
		}
	}
	return due
}

// sleep returns until when nothing is due, for a timekeeper that then waits
// for that time or for w.wake.
func (w *wheel) sleep() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch boundary := (w.tick | (wheelSize - 1)) + 1; {
	case w.armed == 0:
		w.wakeAt = w.tick + wheelSpan
	default:
		// Beyond the boundary the lists of level 1 must be spread first.
		w.wakeAt = boundary
		for tick := w.tick + 1; tick < boundary; {
			i := tick & (wheelSize - 1)
			if word := w.occupied[i/64] >> (i % 64); word != 0 {
				w.wakeAt = tick + int64(bits.TrailingZeros64(word))
				break
			}
			tick += 64 - i%64
		}
	}
	return time.Duration(w.wakeAt) * wheelTick
}

// insert places t at the tick, or as near as the wheel reaches: it fires early
// then, and its session asks again.
func (w *wheel) insert(t *timer, tick int64) {
	t.at = min(max(tick, w.tick+1), w.tick+wheelSpan-wheelSize)
	w.place(t)
	w.armed++
}

func (w *wheel) place(t *timer) {
	level := 0
	for delta := t.at - w.tick; delta >= wheelSize && level < wheelLevels-1; delta >>= wheelBits {
		level++
	}
	i := t.at >> (wheelBits * level) & (wheelSize - 1)
	if level == 0 {
		w.occupied[i/64] |= 1 << (i % 64)
	}
	head := &w.lists[level][i]
	t.prev, t.next = head.prev, head
	t.prev.next, head.prev = t, t
}

func (w *wheel) remove(t *timer) {
	alone := t.next == t.prev
	t.prev.next, t.next.prev = t.next, t.prev
	t.next, t.prev = nil, nil
	w.armed--
	// The list may be of a higher level, where the bit means another one:
	// then the head of level 0 says so.
	if i := t.at & (wheelSize - 1); alone && w.lists[0][i].next == &w.lists[0][i] {
		w.occupied[i/64] &^= 1 << (i % 64)
	}
}

// cascade spreads the list of a level that starts now over the levels below.
func (w *wheel) cascade(level int) {
	head := &w.lists[level][w.tick>>(wheelBits*level)&(wheelSize-1)]
	first := head.next
	if first == head {
		return
	}
	head.prev.next = nil
	head.next, head.prev = head, head
	for t := first; t != nil; {
		next := t.next
		w.place(t)
		t = next
	}
}
