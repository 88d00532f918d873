// SPDX-License-Identifier: Apache-2.0

// Package inbox holds the datagrams of a session that wait for their reader.
package inbox

import (
	"context"
	"sync"
)

// Inbox is a queue of datagrams, in the order in which they came. It never holds
// up who puts one in: what does not fit is dropped, as any datagram may be. The
// zero value takes none; Limit makes it ready. Its methods may be called from
// several goroutines, Limit before all others.
type Inbox struct {
	mu   sync.Mutex
	ring ring
	why  error // not nil: closed
	// waiting counts readers that found nothing. Only for them a token is put into
	// ready, so a busy session uses no channel.
	waiting int
	ready   chan struct{} // made by the first reader that waits
}

// Limit bounds what waits, in bytes with two more for each datagram: rounded
// down to a power of two, between 4 KiB and 16 MiB.
func (b *Inbox) Limit(bytes int) { b.ring.limit = ringLimit(bytes) }

// Push copies a datagram in and reports whether there was room.
func (b *Inbox) Push(datagram []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why != nil || !b.ring.put(datagram) {
		return false
	}
	b.wake()
	return true
}

// Receive waits for a datagram and copies it into p. What is there is read even
// if ctx is done. Errors: ctx's; io.ErrShortBuffer if the datagram was longer
// than p, with its first bytes in p; the reason given to Close once all that
// came before was read.
func (b *Inbox) Receive(ctx context.Context, p []byte) (int, error) {
	if n, ok, err := b.pop(p); ok {
		return n, err
	}
	ready := b.arrive()
	defer b.leave()
	for {
		if n, ok, err := b.pop(p); ok {
			return n, err
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Close refuses further datagrams and tells readers why, which is not nil; those
// inside can still be read. Only the first call counts.
func (b *Inbox) Close(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why != nil {
		return
	}
	b.why = why
	if b.ready != nil {
		close(b.ready)
	}
}

// pop is Receive without waiting; ok is false where there is nothing to say.
func (b *Inbox) pop(p []byte) (n int, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ring.empty() {
		return 0, b.why != nil, b.why
	}
	n, err = b.ring.take(p)
	b.wake() // one token may stand for several datagrams
	return n, true, err
}

// arrive announces a reader that is about to wait and returns what to wait for;
// leave takes the announcement back.
func (b *Inbox) arrive() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ready == nil {
		b.ready = make(chan struct{}, 1)
	}
	b.waiting++
	return b.ready
}

func (b *Inbox) leave() {
	b.mu.Lock()
	b.waiting--
	b.mu.Unlock()
}

// wake lets one waiting reader look again, if there is something to see. mu is held.
func (b *Inbox) wake() {
	if b.waiting == 0 || b.why != nil || b.ring.empty() {
		return // closed: ready is, too
	}
	select {
	case b.ready <- struct{}{}:
	default:
	}
}
