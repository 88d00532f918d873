// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/relay"
)

// Stdio forwards one connection to in and out, as ssh's ProxyCommand wants it.
// The end of in is a half-close; at the end of what the other end sends, out is
// closed if it can be, whereupon the program there ends in. Stdio returns when
// both have ended, or ctx; then a Read of in may still be under way, since
// nothing can end one of a terminal: the caller is about to exit. Errors: those
// of Tunnel.Connect, a *relay.RefusedError if there is no backend, a
// *stream.ResetError, and those of in and out.
//
// It returns no sooner than the backend has all of in that it takes: only the server
// knows when that is, and is asked. A server too old for the question gets linger.
func Stdio(ctx context.Context, tunnel *Tunnel, in io.Reader, out io.Writer) error {
	remote, err := tunnel.Connect(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	source := &reader{in: in, ended: make(chan struct{})}
	go func() { sent <- send(remote, source) }()
	asked := ctx
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(asked, func() {
		source.part(ctx)
		end()
	})()
	defer context.AfterFunc(ctx, func() { remote.Reset(relay.CodeShutdown) })()
	if _, err = io.Copy(out, remote); err != nil {
		remote.Reset(relay.CodeReset)
		select {
		case cause := <-sent: // it may be the cause
			err = cmp.Or(cause, err)
		default:
		}
		return cmp.Or(asked.Err(), relay.Explain(err))
	}
	if c, ok := out.(io.Closer); ok {
		c.Close()
	}
	select {
	case err = <-sent:
	case <-ctx.Done():
		return asked.Err()
	}
	if err != nil || source.bytes == 0 {
		return err
	}
	err = remote.Over(ctx)
	if refused, ok := errors.AsType[*relay.RefusedError](err); ok && refused.Status == relay.StatusVersion {
		rest(ctx, linger)
		return nil
	}
	return err
}

// linger is how long the last bytes of in have to arrive where nobody tells.
const linger = time.Second

// send carries source to the stream. What the peer does not want any more is no error.
func send(remote *relay.Conn, source *reader) error {
	_, err := io.Copy(writer{remote}, source)
	switch {
	case err == nil:
		return remote.CloseWrite()
	case source.err != nil:
		remote.Reset(relay.CodeReset) // or a part would pass for the whole
		return fmt.Errorf("standard input: %w", source.err)
	case relay.IsRefusal(err):
		return nil
	}
	return err
}

// reader counts, and remembers its own error.
type reader struct {
	in    io.Reader
	bytes int64
	err   error
	at    time.Time     // of the end
	ended chan struct{} // closed then
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	r.bytes += int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	if err != nil && r.at.IsZero() { // io.Copy asks once; whoever asks again gets the same
		r.at = time.Now()
		close(r.ended)
	}
	return n, err
}

// partingTime is how close to a signal the end of in belongs to it.
const partingTime = 500 * time.Millisecond

// part waits, after a signal, until what in had at its end can have been answered, or
// ctx is over: ssh says that it disconnects, closes its pipes and hangs up (SIGHUP), all
// at once. Where in did not end just then there is nothing to wait for.
func (r *reader) part(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(partingTime):
		return
	case <-r.ended:
	}
	if time.Since(r.at) < partingTime {
		rest(ctx, linger)
	}
}

// writer hides everything but Write.
type writer struct{ io.Writer }
