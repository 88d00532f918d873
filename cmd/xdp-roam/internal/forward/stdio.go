// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/xdp-roam/xdp-roam/userspace/relay"
)

// Stdio forwards one connection to in and out, as ssh's ProxyCommand wants it.
// The end of in is a half-close; at the end of what the other end sends, out is
// closed if it can be, whereupon the program there ends in. Stdio returns when
// both have ended, or ctx; then a Read of in may still be under way, since
// nothing can end one of a terminal: the caller is about to exit. Errors: those
// of Tunnel.Connect, a *relay.RefusedError if there is no backend, a
// *stream.ResetError, and those of in and out.
func Stdio(ctx context.Context, tunnel *Tunnel, in io.Reader, out io.Writer) error {
	remote, err := tunnel.Connect(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { remote.Reset(relay.CodeShutdown) })()
	sent := make(chan error, 1)
	go func() { sent <- send(remote, in) }()
	if _, err = io.Copy(out, remote); err != nil {
		remote.Reset(relay.CodeReset)
		select {
		case cause := <-sent: // it may be the cause
			err = cmp.Or(cause, err)
		default:
		}
		return cmp.Or(ctx.Err(), err)
	}
	if c, ok := out.(io.Closer); ok {
		c.Close()
	}
	select {
	case err = <-sent:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send carries in to the stream. What the peer does not want any more is no error.
func send(remote *relay.Conn, in io.Reader) error {
	source := &reader{in: in}
	if _, err := io.Copy(writer{remote}, source); err != nil {
		if source.err != nil {
			remote.Reset(relay.CodeReset) // or a part would pass for the whole
			return fmt.Errorf("standard input: %w", source.err)
		}
		return nil
	}
	return remote.CloseWrite()
}

// reader remembers its own error.
type reader struct {
	in  io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// writer hides everything but Write.
type writer struct{ io.Writer }
