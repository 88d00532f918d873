// SPDX-License-Identifier: Apache-2.0

// Package inbox holds the datagrams of a session that wait for their reader.
package inbox

import (
	"context"
	"io"
	"sync"
)

// Inbox is a queue of datagrams, in the order in which they came. It never holds
// up who puts one in: what does not fit is dropped, as any datagram may be. The
// zero value takes none; Limit makes it ready. Its methods may be called from
// several goroutines, Limit before all others.
type Inbox struct {
	mu    sync.Mutex
	queue queue
	why   error // not nil: closed
	// waiting counts readers that found nothing. Only for them a token is put into
	// ready, so a busy session uses no channel.
	waiting int
	ready   chan struct{} // made by the first reader that waits
}

// Limit bounds what waits, in bytes with two more for each datagram: rounded
// down to a power of two, between 4 KiB and 16 MiB.
func (b *Inbox) Limit(bytes int) { b.queue.limitBits = queueLimit(bytes) }

// Headroom is how many bytes lie before each datagram in what Reserve returns.
const Headroom = recordHeader

// Reserve returns memory of the inbox in which the next datagrams can be made, so
// that Push need not copy them: the first Headroom bytes from its start, each other
// one Headroom bytes behind the one before. There is room for n bytes of all that, or
// for 64 KiB, or none. Readers see nothing of it but what is pushed. The next Push,
// be it of nothing, ends it: until then its caller is the only one to call either.
func (b *Inbox) Reserve(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why != nil {
		return nil
	}
	return b.queue.reserve(n)
}

// Push copies datagrams in, but for those that lie where Reserve had them made, and
// returns how many did not fit.
func (b *Inbox) Push(datagrams ...[]byte) (dropped int) {
	b.mu.Lock()
	for _, d := range datagrams {
		if b.why != nil || !b.queue.put(d) {
			dropped++ // a smaller one may still fit
		}
	}
	b.queue.release()
	if b.waiting > 0 {
		b.wake()
	}
	b.mu.Unlock()
	return dropped
}

// Receive waits for a datagram and copies it into p. What is there is read even
// if ctx is done. Errors: ctx's; io.ErrShortBuffer if the datagram was longer
// than p, with its first bytes in p; the reason given to Close once all that
// came before was read.
func (b *Inbox) Receive(ctx context.Context, p []byte) (n int, err error) {
	if err := b.wait(ctx, func() { n = b.queue.take(p) }); err != nil {
		return 0, err
	}
	if n > len(p) {
		return len(p), io.ErrShortBuffer
	}
	return n, nil
}

// Lend waits for a datagram and lends what is there, at most MaxLoan datagrams, without
// a copy. What l held before it takes back first. Errors, with no datagram, are those of
// Receive.
func (b *Inbox) Lend(ctx context.Context, l *Loan) ([][]byte, error) {
	l.Return()
	err := b.wait(ctx, func() {
		l.from = b
		for len(l.datagrams) < MaxLoan && !b.queue.empty() {
			b.queue.lend(l)
		}
	})
	return l.datagrams, err
}

// wait calls take when there is a datagram, with mu held.
func (b *Inbox) wait(ctx context.Context, take func()) error {
	if done, err := b.try(take); done || err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ready := b.arrive()
	defer b.leave()
	for {
		if done, err := b.try(take); done || err != nil {
			return err
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
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

// try is wait without waiting.
func (b *Inbox) try(take func()) (done bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queue.empty() {
		return false, b.why
	}
	take()
	b.wake() // one token may stand for several datagrams
	return true, nil
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
	if b.waiting == 0 || b.why != nil || b.queue.empty() {
		return // closed: ready is, too
	}
	select {
	case b.ready <- struct{}{}:
	default:
	}
}
