// SPDX-License-Identifier: Apache-2.0

// Package service connects sessions to what the server offers: a service port
// stands for a backend, and each session that asked for the port is served by it.
package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Conn is a session as a backend sees it. Its errors are net.ErrClosed to
// errors.Is once the session is over.
type Conn interface {
	ReceiveDatagram(ctx context.Context, p []byte) (int, error)
	SendDatagram(p []byte) error
	Close(code wire.CloseCode, reason string) error
	// MaxReceive and MaxDatagram are the largest datagrams in bytes that can
	// come and that can be sent.
	MaxReceive() int
	MaxDatagram() int
}

// Backend serves sessions.
type Backend interface {
	// Serve serves one session until it is over or ctx is done; it closes the
	// session before it returns. It returns an error only when the backend
	// itself failed; the client is then told why (CLOSE 3).
	Serve(ctx context.Context, c Conn) error
	// String returns what Parse takes.
	String() string
}

// ErrSpec means that a backend's specification is not understood.
var ErrSpec = errors.New("bad backend")

const usage = "use echo:, discard: or udp://host:port"

// Parse reads a backend's specification: "echo:" sends every datagram back,
// "discard:" reads them, "udp://host:port" is a UDP service. Names are resolved
// for each session, so a backend may move.
func Parse(spec string) (Backend, error) {
	scheme, rest, ok := strings.Cut(spec, ":")
	if !ok {
		return nil, fmt.Errorf("%w %q: it has no scheme; %s", ErrSpec, spec, usage)
	}
	switch scheme {
	case "echo", "discard":
		if rest != "" {
			return nil, fmt.Errorf("%w %q: nothing may follow %q", ErrSpec, spec, scheme+":")
		}
		if scheme == "echo" {
			return echo{}, nil
		}
		return discard{}, nil
	case "udp":
		address, ok := strings.CutPrefix(rest, "//")
		if !ok {
			return nil, fmt.Errorf("%w %q: write udp://host:port", ErrSpec, spec)
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("%w %q: %v; write udp://host:port", ErrSpec, spec, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("%w %q: port %q is no number from 1 to 65535", ErrSpec, spec, port)
		}
		if host == "" {
			return nil, fmt.Errorf("%w %q: the host is missing; for this machine write udp://localhost:%s", ErrSpec, spec, port)
		}
		return udp{address}, nil
	}
	return nil, fmt.Errorf("%w %q: scheme %q is unknown; %s", ErrSpec, spec, scheme, usage)
}

// finish ends a session whose client is gone, whose context is done or whose
// reading failed, and returns what Serve returns.
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
