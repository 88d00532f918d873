// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// remembered is how many events of a class are kept.
const remembered = 2048

// Events is the daemon's memory of what happened last, which several can follow.
// Whoever records an event waits for nobody: who does not keep up misses some.
// The zero value is ready.
type Events struct {
	mu        sync.Mutex
	last      uint64 // number of the last event
	rings     map[string]*eventRing
	followers map[chan struct{}]bool // woken when there is something new
}

// eventRing holds the last events of a class.
type eventRing struct {
	events []Event
	next   int // where the next one goes, once the ring is full
}

func (r *eventRing) add(e Event) {
	if len(r.events) < remembered {
		r.events = append(r.events, e)
		return
	}
	r.events[r.next] = e
	r.next = (r.next + 1) % remembered
}

// Record numbers an event and keeps it. It may be called from several goroutines.
func (m *Events) Record(e Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	e.Number = m.last
	if m.rings == nil {
		m.rings = make(map[string]*eventRing)
	}
	ring := m.rings[e.Class]
	if ring == nil {
		ring = new(eventRing)
		m.rings[e.Class] = ring
	}
	ring.add(e)
	for f := range m.followers {
		select {
		case f <- struct{}{}:
		default: // it is awake
		}
	}
}

// after returns the events with larger numbers that match, in their order, the
// number of the last event, and how many of those since are not remembered.
func (m *Events) after(number uint64, match func(*Event) bool) (events []Event, last, lost uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var kept uint64
	for _, ring := range m.rings {
		for i := range ring.events {
			e := &ring.events[i]
			if e.Number <= number {
				continue
			}
			kept++
			if match(e) {
				events = append(events, *e)
			}
		}
	}
	slices.SortFunc(events, func(a, b Event) int { return cmp.Compare(a.Number, b.Number) })
	return events, m.last, m.last - number - kept
}

// follow calls emit for the events that q asks for, first those that are
// remembered, then, if it says so, those that happen, until ctx ends or emit fails.
// flush is called when there is nothing more for now.
func (m *Events) follow(ctx context.Context, q *EventQuery, emit func(*Event) error, flush func() error) error {
	wake := make(chan struct{}, 1)
	if q.Follow {
		m.watch(wake)
		defer m.unwatch(wake)
	}
	events, last, _ := m.after(0, q.match)
	switch {
	case q.Last < 0:
		events = nil
	case q.Last > 0 && len(events) > q.Last:
		events = events[len(events)-q.Last:]
	}
	for {
		for i := range events {
			if err := emit(&events[i]); err != nil {
				return err
			}
		}
		if err := flush(); err != nil || !q.Follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
		var lost uint64
		if events, last, lost = m.after(last, q.match); lost > 0 && len(events) > 0 {
			events[0].Lost = lost
		}
	}
}

func (m *Events) watch(wake chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.followers == nil {
		m.followers = make(map[chan struct{}]bool)
	}
	m.followers[wake] = true
}

func (m *Events) unwatch(wake chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.followers, wake)
}
