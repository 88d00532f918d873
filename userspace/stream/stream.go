// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Stream is one reliable stream of bytes in each direction. It is a net.Conn.
// One goroutine may read while another one writes.
type Stream struct {
	mux  *Mux
	quic *quic.Stream
	// writing is held by Write and CloseWrite, which quic-go does not let meet.
	writing sync.Mutex
}

var _ net.Conn = (*Stream)(nil)

// ID is the stream's number in its Mux: 0, 4, 8, ... for the client's streams.
func (s *Stream) ID() int64 { return int64(s.quic.StreamID()) }

// Read returns io.EOF once the peer has closed its direction and all was read.
// Other errors: a *ResetError; os.ErrDeadlineExceeded to errors.Is; why the Mux is over.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.quic.Read(p)
	return n, s.mux.wrap(err)
}

// Write waits until p is taken over, as far as the peer's reader and the path
// allow. Errors: as Read's, and net.ErrClosed to errors.Is after CloseWrite. A
// *ResetError of the peer's means that it reads no more.
func (s *Stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	n, err := s.quic.Write(p)
	return n, s.mux.wrap(err)
}

// Context is done when nothing more can be written: after CloseWrite or Reset, or
// when the peer reads no more, or at the end of the Mux.
func (s *Stream) Context() context.Context { return s.quic.Context() }

// CloseWrite ends our direction: the peer reads what was written, then io.EOF.
func (s *Stream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.mux.wrap(s.quic.Close())
}

// CloseRead refuses all that is still to come: the peer's Write fails with a
// *ResetError of this code.
func (s *Stream) CloseRead(code Code) { s.quic.CancelRead(quic.StreamErrorCode(code)) }

// Reset gives up both directions at once: what was not delivered yet is lost, and
// the peer's Read and Write fail with a *ResetError of this code.
func (s *Stream) Reset(code Code) {
	s.quic.CancelWrite(quic.StreamErrorCode(code))
	s.quic.CancelRead(quic.StreamErrorCode(code))
}

// ResetInOrder is Reset, but what was written still arrives, and the peer's Read fails
// only behind it, as behind the RST of a TCP connection. (A peer that does not know
// RESET_STREAM_AT of QUIC may miss some of it.) No Write may be under way.
func (s *Stream) ResetInOrder(code Code) {
	s.quic.SetReliableBoundary()
	s.Reset(code)
}

// Close is CloseWrite for what was written and CloseRead(0) for what comes. If a
// Write waits meanwhile, its bytes cannot all arrive: both directions are reset.
func (s *Stream) Close() error {
	if !s.writing.TryLock() {
		s.Reset(0)
		return nil
	}
	defer s.writing.Unlock()
	s.quic.CancelRead(0)
	return s.mux.wrap(s.quic.Close())
}

// SetDeadline implements net.Conn.
func (s *Stream) SetDeadline(t time.Time) error { return s.mux.wrap(s.quic.SetDeadline(t)) }

// SetReadDeadline implements net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.mux.wrap(s.quic.SetReadDeadline(t)) }

// SetWriteDeadline implements net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.mux.wrap(s.quic.SetWriteDeadline(t)) }

// LocalAddr implements net.Conn; addresses are the session's to know.
func (s *Stream) LocalAddr() net.Addr { return address{} }

// RemoteAddr implements net.Conn; addresses are the session's to know.
func (s *Stream) RemoteAddr() net.Addr { return address{} }
