// SPDX-License-Identifier: Apache-2.0

package client

import (
	"io"
	"sync"
)

// queue holds the datagrams that wait for ReceiveDatagram. It never holds up who
// puts one in: what does not fit is dropped, as any datagram may be.
type queue struct {
	mu      sync.Mutex
	waiting [][]byte // a ring
	head, n int
	// free holds the memory of datagrams that were read, the last one on top, so
	// that no more is ever in use than waited at once.
	free    [][]byte
	dropped uint64
	// readers counts those that found nothing. Only for them a token is put into
	// ready, so a busy session uses no channel.
	readers int
	ready   chan struct{}
}

func newQueue(length int) *queue {
	return &queue{waiting: make([][]byte, length), ready: make(chan struct{}, 1)}
}

// push copies datagrams in.
func (q *queue) push(datagrams [][]byte) {
	if len(datagrams) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, d := range datagrams {
		if q.n == len(q.waiting) {
			q.dropped++
			continue
		}
		var mem []byte
		if last := len(q.free) - 1; last >= 0 {
			mem, q.free = q.free[last], q.free[:last]
		}
		q.waiting[(q.head+q.n)%len(q.waiting)] = append(mem[:0], d...)
		q.n++
	}
	if q.readers > 0 {
		q.wake()
	}
}

// pop copies the oldest datagram into p. ok is false when there is none. What
// does not fit into p is lost, with io.ErrShortBuffer.
func (q *queue) pop(p []byte) (n int, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		return 0, false, nil
	}
	d := q.waiting[q.head]
	q.waiting[q.head] = nil
	q.head = (q.head + 1) % len(q.waiting)
	q.n--
	if n = copy(p, d); n < len(d) {
		err = io.ErrShortBuffer
	}
	q.free = append(q.free, d)
	if q.n > 0 && q.readers > 0 {
		q.wake()
	}
	return n, true, err
}

// wait announces a reader that is about to wait and returns what to wait for.
// done takes the announcement back.
func (q *queue) wait() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.readers++
	if q.n > 0 {
		q.wake()
	}
	return q.ready
}

func (q *queue) done() {
	q.mu.Lock()
	q.readers--
	q.mu.Unlock()
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) overflow() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
