// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Instant is CLOCK_MONOTONIC in nanoseconds: the same for all processes of a
// machine, so that what several of them saw can be compared.
type Instant int64

// Sub is the time from earlier to t.
func (t Instant) Sub(earlier Instant) time.Duration { return time.Duration(t - earlier) }

// Add is d after t.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Mark says that the datagram with a number was seen at an instant. It is a
// pair in JSON.
type Mark [2]int64

func mark(number uint64, at Instant) Mark { return Mark{int64(number), int64(at)} }

// Number is the datagram's.
func (m Mark) Number() uint64 { return uint64(m[0]) }

// At is when it was seen.
func (m Mark) At() Instant { return Instant(m[1]) }

// passage is what is known of one datagram. Zero instants: never.
type passage struct {
	sent             Instant
	arrived, echoed  Instant // first at the service, first back at the client
	arrivals, echoes int
	refused          bool // the session did not take it
}

// Ledger accounts for every datagram by its number.
type Ledger struct {
	mu       sync.Mutex
	entries  []passage
	unknown  int // datagrams at the service that no client sent
	refusals map[string]int
}

func (l *Ledger) entry(number uint64) *passage {
	for uint64(len(l.entries)) <= number {
		l.entries = append(l.entries, passage{})
	}
	return &l.entries[number]
}

// sane bounds the numbers that are believed: anything else is not the client's.
const sane = 1 << 24

// Sent notes datagrams that the client handed to its session.
func (l *Ledger) Sent(marks []Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range marks {
		l.entry(m.Number()).sent = m.At()
	}
}

// Refused notes datagrams that the session returned with an error.
func (l *Ledger) Refused(marks []Mark, cause string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range marks {
		e := l.entry(m.Number())
		e.sent, e.refused = m.At(), true
	}
	if l.refusals == nil {
		l.refusals = map[string]int{}
	}
	l.refusals[cause] += len(marks)
}

// Arrived notes datagrams at the service.
func (l *Ledger) Arrived(marks []Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range marks {
		if m.Number() >= sane {
			l.unknown++
			continue
		}
		e := l.entry(m.Number())
		if e.arrivals++; e.arrivals == 1 {
			e.arrived = m.At()
		}
	}
}

// Unknown notes datagrams at the service that are not the client's.
func (l *Ledger) Unknown(count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unknown += count
}

// Echoed notes answers of the service back at the client.
func (l *Ledger) Echoed(marks []Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range marks {
		e := l.entry(m.Number())
		if e.echoes++; e.echoes == 1 {
			e.echoed = m.At()
		}
	}
}

// Refusals counts the datagrams that the session returned, by error.
func (l *Ledger) Refusals() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]int{}
	maps.Copy(all, l.refusals)
	return all
}

// Account is what became of the datagrams sent in one span of time.
type Account struct {
	Sent       int `json:"sent"`
	LostUp     int `json:"lost_to_service"`   // never arrived at the service
	LostDown   int `json:"lost_from_service"` // arrived there, and its answer was lost
	Duplicates int `json:"duplicates"`        // more than once at the service or back at the client
	// Percentiles of the time from the client to the service and back.
	RTT50 time.Duration `json:"rtt_p50_ns"`
	RTT90 time.Duration `json:"rtt_p90_ns"`
	RTT99 time.Duration `json:"rtt_p99_ns"`
	Worst time.Duration `json:"rtt_max_ns"`
	// LostNumbers are the datagrams of LostUp and LostDown.
	LostNumbers      []uint64 `json:"lost_numbers"`
	DuplicateNumbers []uint64 `json:"duplicate_numbers"`
}

// Lost is how many were lost on either way.
func (a Account) Lost() int { return a.LostUp + a.LostDown }

// Between accounts for the datagrams sent from one instant until before another.
func (l *Ledger) Between(from, until Instant) Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := Account{LostNumbers: []uint64{}, DuplicateNumbers: []uint64{}}
	var rtts []time.Duration
	for number, e := range l.entries {
		if e.arrivals > 0 && e.sent == 0 {
			continue // counted by strangers
		}
		if e.sent < from || e.sent >= until || e.sent == 0 {
			continue
		}
		a.Sent++
		switch {
		case e.arrivals == 0:
			a.LostUp++
			a.LostNumbers = append(a.LostNumbers, uint64(number))
		case e.echoes == 0:
			a.LostDown++
			a.LostNumbers = append(a.LostNumbers, uint64(number))
		default:
			rtts = append(rtts, e.echoed.Sub(e.sent))
		}
		if e.arrivals > 1 || e.echoes > 1 {
			a.Duplicates++
			a.DuplicateNumbers = append(a.DuplicateNumbers, uint64(number))
		}
	}
	if len(rtts) > 0 {
		slices.Sort(rtts)
		a.RTT50, a.RTT90 = rtts[len(rtts)/2], rtts[len(rtts)*90/100]
		a.RTT99, a.Worst = rtts[len(rtts)*99/100], rtts[len(rtts)-1]
	}
	return a
}

// Strangers counts what reached the service and no client had sent.
func (l *Ledger) Strangers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := l.unknown
	for _, e := range l.entries {
		if e.arrivals > 0 && e.sent == 0 {
			count++
		}
	}
	return count
}

// FirstAfter finds the first datagram, of those sent at or after from, that
// reached the service and was answered: when it was sent, when it arrived there, and
// when its answer came back. ok is false while there is none.
func (l *Ledger) FirstAfter(from Instant) (sent, arrived, echoed Instant, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.sent >= from && e.arrivals > 0 && e.echoes > 0 {
			return e.sent, e.arrived, e.echoed, true
		}
	}
	return 0, 0, 0, false
}
