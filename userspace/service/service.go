// SPDX-License-Identifier: Apache-2.0

// Package service connects sessions to what the server offers: a service port
// stands for a backend, and each session that asked for the port is served by it.
package service

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Conn is a session as a backend sees it: a *server.Session. Its errors are
// net.ErrClosed to errors.Is once the session is over.
type Conn interface {
	ReceiveDatagram(ctx context.Context, p []byte) (int, error)
	SendDatagram(p []byte) error
	// ReceiveDatagrams waits for one and lends what else is there too, SendDatagrams
	// returns how many were sent and why the one behind them was not.
	ReceiveDatagrams(ctx context.Context, l *inbox.Loan) ([][]byte, error)
	SendDatagrams(ds [][]byte) (int, error)
	Close(code wire.CloseCode, reason string) error
	// Err is nil while the session lives.
	Err() error
	// MaxReceive and MaxDatagram are the largest datagrams in bytes that can
	// come and that can be sent.
	MaxReceive() int
	MaxDatagram() int
	// ID names the session, PeerKey is who its client has proven to be.
	ID() wire.ID
	PeerKey() handshake.PublicKey
	// RemoteAddr is the client's validated address, LocalAddr ours that it speaks to.
	RemoteAddr() netip.AddrPort
	LocalAddr() netip.AddrPort
}

// Service is a backend with its limits. Its sessions share them, so a service
// port has one Service.
type Service struct {
	backend backend
	gate    *gate
	log     *slog.Logger

	failures atomic.Uint64 // of the backend
	down     atomic.Bool   // it failed the last time, and that was logged
	began    time.Time
	quiet    atomic.Int64 // refusals are not logged until so long after began
}

// backend serves sessions.
type backend interface {
	// serve serves one session until it is over or ctx is done; it closes the
	// session before it returns. It returns an error only when the backend itself
	// failed; the client is then told why (CLOSE 3).
	serve(ctx context.Context, s *Service, c Conn) error
	// String returns what parse takes.
	String() string
}

// New reads a backend's specification: "echo:" sends every datagram back,
// "discard:" reads them, "udp://host:port" is a UDP service, and
// "tcp://host:port" and "unix:///path" are services for streams, which get the
// client's address with "?proxy=v2". Names are resolved for each session or
// stream, so a backend may move. Errors wrap ErrSpec or ErrLimits.
func New(spec string, limits Limits, log *slog.Logger) (*Service, error) {
	b, err := parse(spec)
	if err != nil {
		return nil, err
	}
	_, streams := b.(*streams)
	if limits, err = limits.withDefaults(streams); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{backend: b, gate: newGate(limits), log: log.With("backend", spec), began: time.Now()}, nil
}

// String returns the backend's specification.
func (s *Service) String() string { return s.backend.String() }

// Serve serves one session until it is over or ctx is done; it closes the
// session before it returns. It returns an error only when the backend itself
// failed; the client is then told why (CLOSE 3), and the log if it did not fail before.
func (s *Service) Serve(ctx context.Context, c Conn) error {
	leave, refusal := s.gate.session(c.PeerKey())
	if refusal != "" {
		s.tellRefusal("session_refused", c, refusal)
		return c.Close(wire.CloseLimit, refusal)
	}
	defer leave()
	err := s.backend.serve(ctx, s, c)
	if err != nil {
		s.failed(err)
	}
	return err
}

// tellEvery bounds how often refusals are logged; all are counted.
const tellEvery = time.Second

// tellRefusal tells the operator that a limit of the service refuses a client.
func (s *Service) tellRefusal(event string, c Conn, reason string) {
	now, quiet := time.Since(s.began), s.quiet.Load()
	if now < time.Duration(quiet) || !s.quiet.CompareAndSwap(quiet, int64(now+tellEvery)) {
		return
	}
	s.log.Info(event, "session", c.ID(), "peer_key", c.PeerKey(), "reason", reason,
		"fix", "raise the service's limit, or find out why the client does not end what it has")
}

// finish ends a session whose client is gone, whose context is done or whose
// reading failed, and returns what serve returns.
func finish(ctx context.Context, c Conn, err error) error {
	switch {
	case errors.Is(err, net.ErrClosed):
		return nil
	case ctx.Err() != nil:
		_ = c.Close(wire.CloseShuttingDown, "the service is shutting down")
		return nil
	}
	_ = c.Close(wire.CloseServiceGone, "the service failed")
	return err
}
