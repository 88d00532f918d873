// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/stream"
)

// Conn is the client's end of a relayed stream. It is a net.Conn. What is
// written may be on its way before the server has its backend.
type Conn struct {
	*stream.Stream

	once   sync.Once // reads the answer
	answer error
}

// Dial opens a stream to the backend of the session's service. It waits for the
// peer's leave to open one, and not for the answer: that is the first Read's.
func Dial(ctx context.Context, m *stream.Mux) (*Conn, error) {
	s, err := m.Open(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write([]byte{version}); err != nil {
		s.Reset(CodeNone)
		return nil, err
	}
	return &Conn{Stream: s}, nil
}

// Answer waits for what the server says: nil, or a *RefusedError. No Read may be
// under way. A deadline that passes meanwhile ends the stream's use.
func (c *Conn) Answer() error {
	c.once.Do(func() { c.answer = readAnswer(c.Stream) })
	return c.answer
}

// Read reads what the backend sends. It fails with a *RefusedError if there is none.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.Answer(); err != nil {
		return 0, err
	}
	return c.Stream.Read(p)
}

// Request is the server's end of a stream that waits for an answer: Connected
// or Refuse.
type Request struct{ s *stream.Stream }

// openingPatience is how long a stream may exist without its first byte, and how
// long its opener may have no room for the answer.
const openingPatience = 30 * time.Second

// Accept reads how a stream begins. After an error the stream is over.
func Accept(s *stream.Stream) (*Request, error) {
	_ = s.SetReadDeadline(time.Now().Add(openingPatience))
	r := &Request{s}
	if err := readOpening(s); err != nil {
		if errors.Is(err, ErrPreamble) {
			r.Refuse(StatusVersion, "this server speaks version 1 of relayed streams")
		} else {
			s.Reset(CodeRefused)
		}
		return nil, err
	}
	_ = s.SetReadDeadline(time.Time{})
	return r, nil
}

// Connected answers that the backend is there, and returns the stream.
func (r *Request) Connected() (*stream.Stream, error) {
	return r.s, r.answer(StatusConnected, "")
}

func (r *Request) answer(status Status, reason string) error {
	_ = r.s.SetWriteDeadline(time.Now().Add(openingPatience))
	_, err := r.s.Write(appendAnswer(nil, status, reason))
	_ = r.s.SetWriteDeadline(time.Time{})
	return err
}

// Refuse answers why there is no backend, a sentence for a person, and ends the
// stream.
func (r *Request) Refuse(status Status, reason string) {
	if err := r.answer(status, reason); err != nil {
		r.s.Reset(CodeRefused)
		return
	}
	_ = r.s.CloseWrite()
	r.s.CloseRead(CodeRefused)
}

var _ io.ReadWriteCloser = (*Conn)(nil)
