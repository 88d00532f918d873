// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/stream"
)

// Local is a connection of the host's: a *net.TCPConn or a *net.UnixConn.
type Local interface {
	net.Conn
	CloseWrite() error
}

// Remote is a stream: a *stream.Stream or a *Conn.
type Remote interface {
	io.ReadWriter
	CloseWrite() error
	CloseRead(stream.Code)
	Reset(stream.Code)
	ResetInOrder(stream.Code)
}

// Pump carries bytes between a connection and a stream.
type Pump struct {
	// Idle resets both when nothing went either way for so long; 0: never. What waits
	// for Throttle's leave is under way.
	Idle time.Duration
	// Throttle is asked after each read how long to wait before n bytes are passed
	// on, up (from the connection to the stream) or down. Nil: not at all.
	Throttle func(up bool, n int) time.Duration
}

// ErrIdle means that Pump.Idle has passed.
var ErrIdle = errors.New("nothing went through for too long")

// Traffic is what a Pump has carried, in bytes.
type Traffic struct {
	Up   int64 // from the connection to the stream
	Down int64
}

// bufferSize is what is read at once, and all that a direction holds itself: the
// rest waits where it can be refused, in the stream's window or the socket.
const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Run carries until both directions have ended, or one has failed in a way that
// ends both, or ctx is done; then nothing is left of either end. It returns nil
// if both have ended in order, else what the first failure was.
func (p Pump) Run(ctx context.Context, local Local, remote Remote) (Traffic, error) {
	f := &flow{Pump: p, local: local, remote: remote, began: time.Now(), stop: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(f.up)
	wg.Go(f.down)
	over := make(chan struct{})
	go func() {
		wg.Wait()
		close(over)
	}()
	f.watch(ctx, over)
	if f.err != nil {
		f.abort()
	}
	local.Close()
	return Traffic{Up: f.sent.Load(), Down: f.received.Load()}, f.err
}

// flow is one Run.
type flow struct {
	Pump
	local  Local
	remote Remote

	began          time.Time
	active         atomic.Int64 // since began, when something went through last
	ended          atomic.Bool  // down has, in order
	throttled      atomic.Int32 // directions that wait for Throttle's leave
	sent, received atomic.Int64
	stop           chan struct{} // closed by the first failure
	once           sync.Once
	err            error // the first failure, set before stop is closed
}

// fail notes the first failure.
func (f *flow) fail(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.stop)
	})
}

// watch returns when both directions are over; it ends them for ctx and Idle.
func (f *flow) watch(ctx context.Context, over <-chan struct{}) {
	var idle <-chan time.Time
	if f.Idle > 0 {
		t := time.NewTicker(max(f.Idle/4, time.Millisecond))
		defer t.Stop()
		idle = t.C
	}
	for done := ctx.Done(); ; {
		select {
		case <-over:
			return
		case <-done:
			f.end(context.Cause(ctx), CodeShutdown)
			done = nil
		case <-idle:
			if f.throttled.Load() == 0 && time.Since(f.began)-time.Duration(f.active.Load()) >= f.Idle {
				f.end(ErrIdle, CodeIdle)
				idle = nil
			}
		}
	}
}

// end makes both directions fail.
func (f *flow) end(why error, code stream.Code) {
	f.fail(why)
	f.remote.Reset(code)
	f.abort()
}

// abort closes the connection so that its other end sees a reset and not an end
// of file, which would pass for all that there was.
func (f *flow) abort() {
	if tcp, ok := f.local.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	f.local.Close()
}

// up carries what the connection sends.
func (f *flow) up() {
	readErr, writeErr := f.copy(f.remote, f.local, true, &f.sent)
	if readErr == io.EOF && f.cutOff() {
		readErr = syscall.ECONNRESET
	}
	switch {
	case readErr == io.EOF:
		_ = f.remote.CloseWrite() // it fails only when the stream is over, as down will see
	case readErr != nil:
		f.fail(fmt.Errorf("local connection: %w", readErr))
		f.remote.ResetInOrder(CodeReset) // an answer that was cut off behind its end is one
	case IsRefusal(writeErr):
		// The peer reads no more. Whether that is all, down finds out: after a reset of
		// both directions, or a refusal, its own end says so.
	default:
		f.fail(writeErr)
		f.remote.Reset(CodeReset)
		f.abort()
	}
}

// cutOff reports whether the end of file that was read is none. The system tells of a
// reset once, to a Write of down as likely as to a Read; the Read behind that sees an
// end. But a connection that has only ended in this direction still is one.
func (f *flow) cutOff() bool {
	tcp, ok := f.local.(*net.TCPConn)
	return ok && !f.ended.Load() && errors.Is(tcp.CloseRead(), syscall.ENOTCONN)
}

// down carries what the stream brings.
func (f *flow) down() {
	readErr, writeErr := f.copy(f.local, f.remote, false, &f.received)
	switch {
	case readErr == io.EOF:
		// Without a connection any more, the program has read what it wanted.
		f.ended.Store(true)
		if err := f.local.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
			f.fail(fmt.Errorf("local connection: %w", err))
			f.abort()
		}
	case readErr != nil:
		f.fail(readErr)
		f.remote.Reset(CodeReset)
		f.abort() // which ends up, too
	default:
		// The program here reads no more. What it has sent before stays good, so up goes
		// on to its own end; if the connection was reset, that comes at once.
		f.fail(fmt.Errorf("local connection: %w", writeErr))
		f.remote.CloseRead(CodeReset)
	}
}

// copy carries one direction and tells which side has ended it.
func (f *flow) copy(to io.Writer, from io.Reader, up bool, count *atomic.Int64) (readErr, writeErr error) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		n, err := from.Read(buffer[:])
		if n > 0 {
			f.touch()
			f.throttle(up, n)
			if _, err := to.Write(buffer[:n]); err != nil {
				return nil, err
			}
			count.Add(int64(n))
			f.touch()
		}
		if err != nil {
			return err, nil
		}
	}
}

func (f *flow) touch() { f.active.Store(int64(time.Since(f.began))) }

// throttle waits as long as it is told, or until the flow fails. That is no idleness,
// however long.
func (f *flow) throttle(up bool, n int) {
	if f.Throttle == nil {
		return
	}
	if wait := f.Throttle(up, n); wait > 0 {
		f.throttled.Add(1)
		defer f.throttled.Add(-1)
		defer f.touch()
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-f.stop:
		}
	}
}
