// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/quic-go/quic-go"
)

var (
	// ErrNoStreams means that the other end of the session does not speak this protocol:
	// it sends other datagrams, or does not answer.
	ErrNoStreams = errors.New("the other end of the session carries no streams")
	// ErrReplaced means that the server has lost the session, and another one has
	// taken its place, which knows nothing of these streams. It is net.ErrClosed to
	// errors.Is.
	ErrReplaced = fmt.Errorf("the server has lost the session, and the streams with it: %w", net.ErrClosed)
	// ErrClosed means that either end has closed the Mux. It is net.ErrClosed to
	// errors.Is.
	ErrClosed = fmt.Errorf("the streams are closed: %w", net.ErrClosed)
	// ErrSmallDatagrams means that the peer takes no datagrams as large as QUIC's packets.
	ErrSmallDatagrams = fmt.Errorf("the peer takes no datagrams of %d bytes, which streams need", packetSize)
)

// Code says why one direction of a stream was reset: a number of the
// application's, below 2^62.
type Code uint64

// ResetError means that one direction of a stream ended before everything was delivered.
type ResetError struct {
	Code   Code
	Remote bool // the peer did it
}

func (e *ResetError) Error() string {
	by := "here"
	if e.Remote {
		by = "by the peer"
	}
	return fmt.Sprintf("stream reset %s (code %d)", by, e.Code)
}

// wrap gives quic-go's errors the names of this package.
func (m *Mux) wrap(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if reset, ok := errors.AsType[*quic.StreamError](err); ok {
		return &ResetError{Code: Code(reset.ErrorCode), Remote: reset.Remote}
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err // the caller's
	case errors.Is(err, quic.ErrStreamClosed):
		return fmt.Errorf("write after the end of the stream: %w", net.ErrClosed)
	}
	return m.cause(err)
}

// cause says why QUIC is over: because the session is, if it is.
func (m *Mux) cause(err error) error {
	if replaced := m.replaced.Load(); replaced {
		return ErrReplaced
	}
	if ended := m.conn.session.Err(); ended != nil {
		return ended
	}
	if _, ok := errors.AsType[*quic.ApplicationError](err); ok || errors.Is(err, net.ErrClosed) {
		return ErrClosed
	}
	return fmt.Errorf("%w (%w)", ErrClosed, err)
}
