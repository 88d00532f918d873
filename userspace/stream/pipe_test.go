// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// pipe is a pair of sessions with a wire between them that loses, delays and
// reorders, and that can be cut.
type pipe struct {
	client, server *pipeEnd

	mu       sync.Mutex // guards what follows
	rng      *rand.Rand
	loss     float64
	delay    time.Duration
	jitter   time.Duration
	cut      bool
	oversize int // datagrams beyond packetSize
	sent     int // datagrams
}

// pipeEnd is one end.
type pipeEnd struct {
	pipe      *pipe
	peer      *pipeEnd
	recovered chan struct{}

	mu         sync.Mutex // guards what follows
	queue      [][]byte
	ready      chan struct{} // closed and made anew when something comes
	err        error
	generation uint32
}

func newPipe(delay time.Duration) *pipe {
	p := &pipe{rng: rand.New(rand.NewPCG(1, 2)), delay: delay}
	end := func() *pipeEnd {
		return &pipeEnd{pipe: p, recovered: make(chan struct{}, 1), ready: make(chan struct{}), generation: 1}
	}
	p.client, p.server = end(), end()
	p.client.peer, p.server.peer = p.server, p.client
	return p
}

func (p *pipe) set(f func(*pipe)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// mend ends a cut and tells the client's end, as a session would.
func (p *pipe) mend() {
	p.set(func(p *pipe) { p.cut = false })
	p.client.notify()
}

func (e *pipeEnd) notify() {
	select {
	case e.recovered <- struct{}{}:
	default:
	}
}

// end ends both sessions.
func (p *pipe) end(err error) {
	for _, e := range []*pipeEnd{p.client, p.server} {
		e.mu.Lock()
		e.err = err
		close(e.ready)
		e.ready = make(chan struct{})
		e.mu.Unlock()
	}
}

func (e *pipeEnd) SendDatagram(b []byte) error {
	if err := e.Err(); err != nil {
		return err
	}
	p := e.pipe
	p.mu.Lock()
	p.sent++
	if len(b) > packetSize {
		p.oversize++
	}
	lost := p.cut || p.rng.Float64() < p.loss
	delay := p.delay
	if p.jitter > 0 {
		delay += time.Duration(p.rng.Int64N(int64(p.jitter)))
	}
	p.mu.Unlock()
	if lost {
		return nil
	}
	b = append([]byte(nil), b...)
	time.AfterFunc(delay, func() { e.peer.put(b) })
	return nil
}

func (e *pipeEnd) SendDatagrams(ds [][]byte) (int, error) {
	for i, d := range ds {
		if err := e.SendDatagram(d); err != nil {
			return i, err
		}
	}
	return len(ds), nil
}

func (e *pipeEnd) put(b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return
	}
	e.queue = append(e.queue, b)
	close(e.ready)
	e.ready = make(chan struct{})
}

func (e *pipeEnd) ReceiveDatagram(ctx context.Context, b []byte) (int, error) {
	for {
		e.mu.Lock()
		if len(e.queue) > 0 {
			d := e.queue[0]
			e.queue = e.queue[1:]
			e.mu.Unlock()
			n := copy(b, d)
			if n < len(d) {
				return n, io.ErrShortBuffer
			}
			return n, nil
		}
		err, ready := e.err, e.ready
		e.mu.Unlock()
		if err != nil {
			return 0, err
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (e *pipeEnd) MaxDatagram() int           { return 4000 }
func (e *pipeEnd) Recovered() <-chan struct{} { return e.recovered }

func (e *pipeEnd) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

func (e *pipeEnd) Generation() uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.generation
}

// connect opens the streams of both ends.
func (p *pipe) connect(t *testing.T, cfg Config) (client, server *Mux) {
	t.Helper()
	accepted := make(chan *Mux, 1)
	go func() {
		m, err := Server(t.Context(), p.server, cfg)
		if err != nil {
			t.Errorf("server: %v", err)
		}
		accepted <- m
	}()
	client, err := Client(t.Context(), p.client, cfg)
	if err != nil {
		t.Fatalf("client: %v", err)
	}
	if server = <-accepted; server == nil {
		t.FailNow()
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

// streams opens a stream and returns both ends of it.
func streams(t *testing.T, client, server *Mux) (near, far *Stream) {
	t.Helper()
	near, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if far, err = server.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return near, far
}

var errOver = &net.OpError{Op: "session", Err: net.ErrClosed}
