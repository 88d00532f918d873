// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/stream"
)

// Conn is the client's end of a relayed stream. It is a net.Conn. What is
// written may be on its way before the server has its backend.
type Conn struct {
	*stream.Stream

	mux    *stream.Mux
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
	if _, err := s.Write([]byte{kindConnection}); err != nil {
		s.Reset(CodeNone)
		return nil, err
	}
	return &Conn{Stream: s, mux: m}, nil
}

// Over waits until the server has done with the stream: its backend has all that
// was written before CloseWrite, or wants no more of it. It asks on a stream of its
// own, since nothing else tells a client whose peer has ended its direction first. A
// server that ends the Mux or the session in order has done with all of it. Errors:
// ctx's, those of the Mux, and a *RefusedError of StatusVersion from a server that does
// not know the question.
func (c *Conn) Over(ctx context.Context) error {
	err := c.askOver(ctx)
	orderly, ok := errors.AsType[interface {
		error
		Orderly() bool
	}](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, stream.ErrClosed), ok && orderly.Orderly():
		return nil
	}
	return err
}

func (c *Conn) askOver(ctx context.Context) error {
	s, err := c.mux.Open(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { s.Reset(CodeNone) })()
	if _, err := s.Write(appendQuestion(nil, c.ID())); err != nil {
		return err
	}
	_ = s.CloseWrite() // it fails only with the Mux, as reading does
	return readAnswer(s)
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

// Accept reads how a stream begins. One that only asks about another is answered out
// of served, which may be nil: then such questions are refused, and the client does
// without. After an error, ErrAnswered too, the stream is over.
func Accept(s *stream.Stream, served *Served) (*Request, error) {
	_ = s.SetReadDeadline(time.Now().Add(openingPatience))
	r := &Request{s}
	about, question, err := readOpening(s)
	if err == nil && question && served == nil {
		err = fmt.Errorf("%w: it asks about another stream", ErrPreamble)
	}
	if err != nil {
		if errors.Is(err, ErrPreamble) {
			r.Refuse(StatusVersion, "this server does not know what the stream is for")
		} else {
			s.Reset(CodeRefused)
		}
		return nil, err
	}
	_ = s.SetReadDeadline(time.Time{})
	if !question {
		return r, nil
	}
	select {
	case <-served.over(about):
		r.Refuse(StatusConnected, "")
	case <-s.Context().Done(): // nobody wants to know any more
		s.Reset(CodeNone)
	}
	return nil, ErrAnswered
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
