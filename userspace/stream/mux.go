// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// Session is what streams need of a session; a client.Session and a
// server.Session are ones. From Client or Server on, its datagrams are the Mux's.
type Session interface {
	// ReceiveDatagram copies the next datagram into p; io.ErrShortBuffer loses one.
	ReceiveDatagram(ctx context.Context, p []byte) (int, error)
	// SendDatagrams may lose what it is given. It returns how many it has taken, and
	// why not the one behind them: net.ErrClosed to errors.Is once the session is over.
	SendDatagrams(ds [][]byte) (int, error)
	MaxDatagram() int
	// Err is nil while the session lives.
	Err() error
}

// ClientSession is the client's end, which knows how its path fares.
type ClientSession interface {
	Session
	// Recovered gets a token when the server is heard again, on another path or after
	// a silence.
	Recovered() <-chan struct{}
	// Generation changes when another session takes the place of a lost one.
	Generation() uint32
}

// Config may be zero.
type Config struct {
	// MaxStreams is how many streams the peer may have open at a time; its further ones
	// wait. Zero: 256; negative: none.
	MaxStreams int
}

const (
	defaultStreams = 256
	// handshakePatience is how long the peer may be silent during the handshake, which
	// is how a service is found out that carries no streams.
	handshakePatience = 10 * time.Second
	// forever is longer than any session: QUIC may not end before it.
	forever = 100 * 365 * 24 * time.Hour
)

// Mux is a session's streams. Its methods may be called concurrently. It ends
// with its session; whoever has one must Close it, or end the session.
type Mux struct {
	conn      *conn
	transport *quic.Transport
	quic      *quic.Conn
	window    allowance
	replaced  atomic.Bool
	done      chan struct{}
}

// Client opens the streams of a session that was dialled. It fails with ctx's
// error, the session's, ErrSmallDatagrams, or ErrNoStreams when the other end
// has not answered for 10 s.
func Client(ctx context.Context, s ClientSession, cfg Config) (*Mux, error) {
	m, err := newMux(s, false)
	if err != nil {
		return nil, err
	}
	generation := s.Generation()
	q, err := m.transport.Dial(ctx, address{}, clientTLS(), cfg.quic(clientFirst, m.window.take))
	if err != nil {
		return nil, m.abandon(ctx, err)
	}
	m.quic = q
	go m.run(s.Recovered(), func() bool { return s.Generation() != generation })
	return m, nil
}

// Server waits for the client of an accepted session to open its streams. It
// fails as Client does; ErrNoStreams as soon as something else comes.
func Server(ctx context.Context, s Session, cfg Config) (*Mux, error) {
	m, err := newMux(s, true)
	if err != nil {
		return nil, err
	}
	identity, err := serverTLS()
	if err != nil {
		return nil, m.abandon(ctx, err)
	}
	listener, err := m.transport.Listen(identity, cfg.quic(serverFirst, m.window.take))
	if err != nil {
		return nil, m.abandon(ctx, err)
	}
	q, err := listener.Accept(ctx)
	if err != nil {
		return nil, m.abandon(ctx, err)
	}
	// One session, one connection; and the listener's queue is most of an idle one's memory.
	listener.Close()
	m.quic = q
	go m.run(nil, nil)
	return m, nil
}

func newMux(s Session, server bool) (*Mux, error) {
	if s.MaxDatagram() < packetSize {
		if err := s.Err(); err != nil {
			return nil, err
		}
		return nil, ErrSmallDatagrams
	}
	c := newConn(s, server)
	return &Mux{conn: c, transport: &quic.Transport{Conn: c}, window: allowance{of: &process}, done: make(chan struct{})}, nil
}

// quic is the configuration of a connection whose windows grow as far as take allows.
func (cfg Config) quic(begin first, take func(uint64) bool) *quic.Config {
	streams := int64(cfg.MaxStreams)
	if streams == 0 {
		streams = defaultStreams
	}
	return &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           handshakePatience,
		MaxIdleTimeout:                 forever,
		InitialStreamReceiveWindow:     begin.stream,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: begin.connection,
		MaxConnectionReceiveWindow:     maxWindow,
		AllowConnectionWindowIncrease:  func(_ *quic.Conn, delta uint64) bool { return take(delta) },
		MaxIncomingStreams:             streams,
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              packetSize,
		// For Stream.ResetInOrder.
		EnableStreamResetPartialDelivery: true,
		DisablePathMTUDiscovery:          true,
	}
}

// abandon cleans up after a handshake that failed, and says why it did.
func (m *Mux) abandon(ctx context.Context, err error) error {
	m.transport.Close()
	m.window.release()
	ended := m.conn.session.Err()
	_, idle := errors.AsType[*quic.IdleTimeoutError](err)
	_, slow := errors.AsType[*quic.HandshakeTimeoutError](err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ended != nil:
		return ended
	case errors.Is(err, ErrNoStreams):
		return ErrNoStreams
	case idle, slow:
		return fmt.Errorf("%w: nothing came for %v", ErrNoStreams, handshakePatience)
	}
	return fmt.Errorf("%w: %w", ErrNoStreams, err)
}

// run waits for the end, and meanwhile for recoveries.
func (m *Mux) run(recovered <-chan struct{}, replaced func() bool) {
	defer close(m.done)
	over := m.quic.Context().Done()
	for ended := false; !ended; {
		select {
		case <-over:
			ended = true
		case <-recovered:
			if replaced() {
				m.replaced.Store(true)
				m.transport.Close() // there is nobody to tell
				continue
			}
			m.conn.recovered()
		}
	}
	m.transport.Close()
	m.window.release()
}

// Open opens a stream. The peer hears of it with the first byte that is written.
// If the peer has as many of ours as it takes, Open waits for one to end. Errors:
// ctx's, and why the Mux is over.
func (m *Mux) Open(ctx context.Context) (*Stream, error) {
	s, err := m.quic.OpenStreamSync(ctx)
	if err != nil {
		return nil, m.wrap(err)
	}
	return &Stream{mux: m, quic: s}, nil
}

// Accept waits for a stream opened by the peer. Errors: ctx's, and why the Mux is over.
func (m *Mux) Accept(ctx context.Context) (*Stream, error) {
	s, err := m.quic.AcceptStream(ctx)
	if err != nil {
		return nil, m.wrap(err)
	}
	return &Stream{mux: m, quic: s}, nil
}

// Close ends all streams at both ends, and returns when nothing of them is left
// here. It leaves the session open, but that can carry no other streams.
func (m *Mux) Close() error {
	_ = m.quic.CloseWithError(0, "")
	<-m.done
	return nil
}

// Done is closed when the Mux is over: Err says why.
func (m *Mux) Done() <-chan struct{} { return m.done }

// Err is nil while the Mux lives; then the session's error, ErrReplaced or ErrClosed.
func (m *Mux) Err() error {
	if m.quic.Context().Err() == nil {
		return nil
	}
	return m.cause(context.Cause(m.quic.Context()))
}
