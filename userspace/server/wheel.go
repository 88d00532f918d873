// SPDX-License-Identifier: Apache-2.0

package server

import (
	"math/bits"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/prefetch"
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

// timer is a session's place in its worker's wheel: in which list, and where. The
// wheel's lock guards it.
type timer struct {
	at    int64  // tick
	list  uint16 // number of the list, from 1; 0 while unarmed
	place uint32
}

// wheel is a hierarchical timer wheel (Varghese and Lauck 1987, scheme 7): arming
// costs the same however many are armed. A deadline that moves to later is
// left where it is and armed anew when it fires, so that traffic, which puts
// deadlines off all the time, does not touch the wheel at all.
//
// The lists are arrays: of sessions that are in no cache, a linked list would have
// each one waited for before the next is known.
type wheel struct {
	mu       sync.Mutex
	tick     int64 // all up to here have fired
	armed    int
	lists    [wheelLevels * wheelSize][]*Session // in no order
	occupied [wheelSize / 64]uint64              // level 0: which lists are not empty
	wakeAt   int64                               // tick that the worker's timekeeper sleeps until
	wake     chan struct{}                       // tells it that there is an earlier one
}

// keptList is how long a list may be that keeps its memory when it fires.
const keptList = 1 << 12

func newWheel(now time.Duration) *wheel {
	w := &wheel{tick: int64(now / wheelTick), wake: make(chan struct{}, 1)}
	w.wakeAt = w.tick + wheelSpan
	return w
}

// arm makes the timer of s fire at the time or, where it is armed for an earlier
// one, then.
func (w *wheel) arm(s *Session, at time.Duration) {
	tick := int64((at + wheelTick - 1) / wheelTick) // never before its time
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.timer.list != 0 {
		if s.timer.at <= tick {
			return
		}
		w.remove(s)
	}
	w.insert(s, tick)
	if s.timer.at < w.wakeAt {
		w.wakeAt = s.timer.at
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// disarm forgets the timer of s.
func (w *wheel) disarm(s *Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.timer.list != 0 {
		w.remove(s)
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
		fired := w.empty(0)
		for i, s := range fired {
			if ahead := i + prefetchAhead; ahead < len(fired) {
				prefetch.Object(&fired[ahead].timer)
			}
			s.timer.list = 0
		}
		due = append(due, fired...)
		w.armed -= len(fired)
		w.keep(0, fired)
	}
	return due
}

// prefetchAhead is how many sessions before its turn one is asked for.
const prefetchAhead = 8

// empty takes all sessions from the list of a level whose time is now. Their timers
// still say that they are in it.
func (w *wheel) empty(level int) []*Session {
	i := w.index(level, w.tick)
	list := w.lists[i]
	w.lists[i] = nil
	if level == 0 {
		w.occupied[i/64] &^= 1 << (i % 64)
	}
	return list
}

// keep gives the memory of a list that was emptied back to it, unless that is much.
func (w *wheel) keep(level int, list []*Session) {
	if i := w.index(level, w.tick); w.lists[i] == nil && cap(list) <= keptList {
		clear(list)
		w.lists[i] = list[:0]
	}
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

// index is the number in lists of a level's list for a tick.
func (w *wheel) index(level int, tick int64) int {
	return level<<wheelBits | int(tick>>(wheelBits*level))&(wheelSize-1)
}

// insert places s at the tick, or as near as the wheel reaches: it fires early
// then, and its session asks again.
func (w *wheel) insert(s *Session, tick int64) {
	s.timer.at = min(max(tick, w.tick+1), w.tick+wheelSpan-wheelSize)
	w.place(s)
	w.armed++
}

func (w *wheel) place(s *Session) {
	level := 0
	for delta := s.timer.at - w.tick; delta >= wheelSize && level < wheelLevels-1; delta >>= wheelBits {
		level++
	}
	i := w.index(level, s.timer.at)
	if level == 0 {
		w.occupied[i/64] |= 1 << (i % 64)
	}
	s.timer.list, s.timer.place = uint16(i+1), uint32(len(w.lists[i]))
	w.lists[i] = append(w.lists[i], s)
}

// remove takes s out of its list, whose last takes its place there.
func (w *wheel) remove(s *Session) {
	i := int(s.timer.list - 1)
	list := w.lists[i]
	last := list[len(list)-1]
	list[s.timer.place] = last
	last.timer.place = s.timer.place
	list[len(list)-1] = nil
	list = list[:len(list)-1]
	w.lists[i] = list
	s.timer.list = 0
	w.armed--
	if len(list) == 0 && i < wheelSize {
		w.occupied[i/64] &^= 1 << (i % 64)
	}
}

// cascade spreads the list of a level that starts now over the levels below.
func (w *wheel) cascade(level int) {
	list := w.empty(level)
	for i, s := range list {
		if ahead := i + prefetchAhead; ahead < len(list) {
			prefetch.Object(&list[ahead].timer)
		}
		w.place(s)
	}
	w.keep(level, list)
}
