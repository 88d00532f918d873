// SPDX-License-Identifier: Apache-2.0

//go:build linux

package roam

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

const (
	// interval is the time between two datagrams in each direction: how finely a
	// moment can be told.
	interval = 250 * time.Microsecond
	// upSize and downSize are their sizes. With the overhead of 41 bytes the server
	// sends 7 times what it gets, and may send 3 times that to an unvalidated path.
	upSize, downSize = 100, 1000
	// steady is for how long nothing may be missing where a stream is called full.
	steady = 20 * time.Millisecond
)

// arrival is a datagram that has reached the application.
type arrival struct {
	seq      uint64
	sent, at time.Duration
}

// stream is one direction of a session.
type stream struct {
	mu       sync.Mutex
	arrivals []arrival
}

// send sends datagrams of size without pause until ctx ends.
func (s *stream) send(ctx context.Context, size int, send func([]byte) error) error {
	p := make([]byte, size)
	next := now()
	for seq := uint64(0); ctx.Err() == nil; seq++ {
		binary.BigEndian.PutUint64(p, seq)
		binary.BigEndian.PutUint64(p[8:], uint64(now()))
		if err := send(p); err != nil {
			return err
		}
		next = max(next+interval, now()-interval) // after a stall no burst of what is late
		sleepUntil(next)
	}
	return nil
}

// receive notes what arrives until ctx ends.
func (s *stream) receive(ctx context.Context, receive func(context.Context, []byte) (int, error)) error {
	p := make([]byte, max(upSize, downSize))
	for {
		_, err := receive(ctx, p)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		a := arrival{seq: binary.BigEndian.Uint64(p), sent: time.Duration(binary.BigEndian.Uint64(p[8:])), at: now()}
		s.mu.Lock()
		s.arrivals = append(s.arrivals, a)
		s.mu.Unlock()
	}
}

// forget starts the notes anew.
func (s *stream) forget() {
	s.mu.Lock()
	s.arrivals = s.arrivals[:0]
	s.mu.Unlock()
}

// first returns the first arrival of what was sent at t or later.
func (s *stream) first(t time.Duration) (arrival, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.arrivals, func(a arrival) bool { return a.sent >= t })
	if i < 0 {
		return arrival{}, false
	}
	return s.arrivals[i], true
}

// full returns the first datagram sent at t or later from which on none is
// missing for the time called steady, and how many of those between t and it are.
func (s *stream) full(t time.Duration) (from arrival, missing int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run := -1
	for i, a := range s.arrivals {
		switch {
		case a.sent < t:
			continue
		case run < 0:
			run = i
		case a.seq != s.arrivals[i-1].seq+1:
			missing += int(a.seq-s.arrivals[i-1].seq) - 1
			run = i
		}
		if from = s.arrivals[run]; a.sent-from.sent >= steady {
			return from, missing, true
		}
	}
	return arrival{}, missing, false
}
