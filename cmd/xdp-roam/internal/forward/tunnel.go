// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/relay"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// StreamSession is a client's session as a Tunnel needs it. It should end where
// another one would take its place (client.Config.NoReopen): streams do not
// outlive their session, and the Tunnel opens the next one itself.
type StreamSession interface {
	stream.ClientSession
	// Close tells the server and may wait for it a moment.
	Close(code wire.CloseCode, reason string) error
}

// Tunnel is the session that the connections to one service share. It is opened
// by the first that needs it, and again by the next one after it has ended.
type Tunnel struct {
	// Dial opens a session.
	Dial func(context.Context) (StreamSession, error)
	// Report tells the person that the session has ended; nil: nobody.
	Report func(format string, args ...any)

	mu      sync.Mutex // guards what follows
	closed  bool
	current *tunnelled
	opening *opening
	after   time.Time // of a failure: no new attempt before
	failed  error     // what it was
	wait    sync.WaitGroup
}

// tunnelled is an open session.
type tunnelled struct {
	session StreamSession
	mux     *stream.Mux
}

// opening is an attempt that several connections may wait for.
type opening struct {
	done   chan struct{}
	cancel context.CancelFunc
	found  *tunnelled
	err    error
}

// Open makes sure that there is a session.
func (t *Tunnel) Open(ctx context.Context) error {
	_, err := t.session(ctx)
	return err
}

// Connect opens a connection to the service. Its answer, whether the backend is
// there, is the first Read's.
func (t *Tunnel) Connect(ctx context.Context) (*relay.Conn, error) {
	for again := true; ; again = false {
		s, err := t.session(ctx)
		if err != nil {
			return nil, err
		}
		conn, err := relay.Dial(ctx, s.mux)
		if err == nil || ctx.Err() != nil || s.mux.Err() == nil || !again {
			return conn, err
		}
		// It ended in this moment: once more, with another session.
	}
}

// Close ends the session and every connection in it.
func (t *Tunnel) Close() {
	t.mu.Lock()
	t.closed = true
	current, o := t.current, t.opening
	t.mu.Unlock()
	if o != nil {
		o.cancel()
	}
	if current != nil {
		current.mux.Close()
	}
	t.wait.Wait()
}

// session returns the open session, or opens one.
func (t *Tunnel) session(ctx context.Context) (*tunnelled, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, stream.ErrClosed
	}
	// The streams learn a moment later than the session that it is over.
	if s := t.current; s != nil && s.mux.Err() == nil && s.session.Err() == nil {
		t.mu.Unlock()
		return s, nil
	}
	o := t.opening
	if o == nil {
		// A program that asks again and again must not become a flood of handshakes.
		if time.Now().Before(t.after) {
			err := t.failed
			t.mu.Unlock()
			return nil, err
		}
		// Not the caller's context: others may wait for the same attempt.
		dial, cancel := context.WithCancel(context.Background())
		o = &opening{done: make(chan struct{}), cancel: cancel}
		t.opening = o
		t.wait.Go(func() { t.open(dial, o) })
	}
	t.mu.Unlock()
	select {
	case <-o.done:
		return o.found, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// open makes the attempt o, and stays with the session that came of it.
func (t *Tunnel) open(ctx context.Context, o *opening) {
	defer o.cancel()
	o.found, o.err = t.dial(ctx)
	t.mu.Lock()
	t.current, t.opening = o.found, nil
	if o.err != nil {
		t.after, t.failed = time.Now().Add(retryAfter), o.err
	}
	closed := t.closed
	t.mu.Unlock()
	close(o.done)
	if o.err != nil {
		return
	}
	if closed {
		o.found.mux.Close()
	}
	<-o.found.mux.Done()
	if err := o.found.session.Err(); err != nil && t.Report != nil {
		t.Report("session ended: %v", err)
	}
	o.found.session.Close(wire.CloseDone, "")
}

func (t *Tunnel) dial(ctx context.Context) (*tunnelled, error) {
	session, err := t.Dial(ctx)
	if err != nil {
		return nil, err
	}
	mux, err := stream.Client(ctx, session, stream.Config{MaxStreams: -1}) // the server opens none
	if err != nil {
		session.Close(wire.CloseDone, "")
		return nil, err
	}
	return &tunnelled{session: session, mux: mux}, nil
}
