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
	defer context.AfterFunc(ctx, func() { remote.Reset(relay.CodeShutdown) })()
	sent := make(chan error, 1)
	source := &reader{in: in}
	go func() { sent <- send(remote, source) }()
	if _, err = io.Copy(out, remote); err != nil {
		remote.Reset(relay.CodeReset)
		select {
		case cause := <-sent: // it may be the cause
			err = cmp.Or(cause, err)
		default:
		}
		return cmp.Or(ctx.Err(), relay.Explain(err))
	}
	if c, ok := out.(io.Closer); ok {
		c.Close()
	}
	select {
	case err = <-sent:
	case <-ctx.Done():
		return ctx.Err()
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
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	r.bytes += int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// writer hides everything but Write.
type writer struct{ io.Writer }
