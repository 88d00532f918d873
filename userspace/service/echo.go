// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net"
	"sync"
)

// echo sends every datagram back.
type echo struct{}

func (echo) String() string { return "echo:" }

func (echo) serve(ctx context.Context, s *Service, c Conn) error {
	t := throttled{c, s.gate.rates(c.PeerKey())}
	p := make([]byte, c.MaxReceive())
	for {
		n, err := c.ReceiveDatagram(ctx, p)
		if err != nil {
			return finish(ctx, c, err)
		}
		b := takeEchoes(len(p))
		err = b.answer(t, p[:n])
		echoMemory.Put(b)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
	}
}

// echoes is memory for the datagrams that have come behind the one that a session
// waited for, to be answered in one go. A session that waits holds none.
type echoes struct {
	buffers [32][]byte
	sizes   [32]int
	answers [][]byte
}

var echoMemory sync.Pool

// takeEchoes returns memory for datagrams of up to size bytes.
func takeEchoes(size int) *echoes {
	if b, _ := echoMemory.Get().(*echoes); b != nil && len(b.buffers[0]) >= size {
		return b
	}
	b := new(echoes)
	memory := make([]byte, len(b.buffers)*size)
	for i := range b.buffers {
		b.buffers[i] = memory[i*size : (i+1)*size : (i+1)*size]
	}
	return b
}

// answer sends first back and what else is there. An error is net.ErrClosed; any
// other is one datagram's alone, for instance that the client takes only smaller
// ones: lost, as datagrams may be.
func (b *echoes) answer(t throttled, first []byte) error {
	b.answers = b.answers[:0]
	if t.mayPass(len(first)) {
		b.answers = append(b.answers, first)
	}
	n, _ := t.ReceiveDatagrams(noWait, b.buffers[:], b.sizes[:])
	for i, p := range b.buffers[:n] {
		if size := min(b.sizes[i], len(p)); t.mayPass(size) {
			b.answers = append(b.answers, p[:size])
		}
	}
	for rest := b.answers; len(rest) > 0; {
		n, err := t.SendDatagrams(rest)
		if err == nil || errors.Is(err, net.ErrClosed) {
			return err
		}
		rest = rest[n+1:]
	}
	return nil
}

// noWait is the context of a call that takes what is there.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// discard reads and forgets.
type discard struct{}

func (discard) String() string { return "discard:" }

func (discard) serve(ctx context.Context, _ *Service, c Conn) error {
	p := make([]byte, c.MaxReceive())
	for {
		if _, err := c.ReceiveDatagram(ctx, p); err != nil {
			return finish(ctx, c, err)
		}
	}
}
