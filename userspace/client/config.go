// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// ErrConfig means that a Config cannot be used; what wraps it says why.
var ErrConfig = errors.New("bad client configuration")

// Config names the server and the client's identity. ServerKey must be set, and Server,
// Servers or both.
type Config struct {
	// Server names the server: host, host:port, address or [address]:port; without a
	// port it is wire.DefaultPort. The name is resolved by Dial, and again whenever
	// the session looks for a way to its server.
	Server string
	// Servers are further addresses of the same server, best first, of both families if
	// it has them. A session moves between all known addresses if its current network
	// reaches only some of them.
	Servers []netip.AddrPort
	// ServerKey is the server's identity.
	ServerKey handshake.PublicKey
	// Identity is the client's private key; zero: a fresh one, which only a server that
	// allows anonymous clients accepts.
	Identity handshake.PrivateKey
	// PSK is the secret shared with the server beforehand; zero: none.
	PSK handshake.PSK
	// Service is the service port asked for.
	Service uint16
	// Params is announced to the server; zero fields: 24 h, and the largest datagram that
	// four packets carry on every path.
	Params handshake.Params
	// Keepalive is how long a session may be silent before it sends a PING, so that NATs
	// on the path keep their mapping; zero: 25 s; negative: never.
	Keepalive time.Duration
	// NoReopen ends a lost session instead of opening a new one in its place: see
	// Session.Generation.
	NoReopen bool
	// ReceiveBuffer bounds the datagrams that wait for ReceiveDatagram, in bytes,
	// rounded down to a power of two between 4 KiB and 16 MiB; what comes when it is
	// full is dropped and counted. Zero: 1 MiB.
	ReceiveBuffer int
	// Log gets messages for the operator. Nil: nothing is logged.
	Log *slog.Logger
	// OnEvent is called with what happens to the session, in order and one call at a
	// time. It may call any method of the session, including Close, and may be called
	// before Dial returns. Nil: not called.
	OnEvent func(Event)
	// Network is how the client reaches the network; nil: the host's.
	Network Network
}

const (
	defaultKeepalive     = 25 * time.Second
	defaultReceiveBuffer = 1 << 20
)

func (c Config) withDefaults() (Config, error) {
	if len(c.Servers) == 0 && c.Server == "" {
		return c, fmt.Errorf("%w: no server address: name one, for example edge.example.com:%d", ErrConfig, wire.DefaultPort)
	}
	if c.Server != "" {
		if _, _, err := SplitServer(c.Server); err != nil {
			return c, err
		}
	}
	servers := make([]netip.AddrPort, 0, len(c.Servers))
	for _, a := range c.Servers {
		if !usable(a) {
			return c, fmt.Errorf("%w: %v is not the address and port of one server", ErrConfig, a)
		}
		servers = append(servers, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	c.Servers = servers
	if c.ServerKey.IsZero() {
		return c, fmt.Errorf("%w: no server key: `xdp-roam pubkey` on the server prints it", ErrConfig)
	}
	if c.Params.IdleTimeout < 0 || c.ReceiveBuffer < 0 {
		return c, fmt.Errorf("%w: the idle timeout (%v) or the receive buffer (%d) is negative", ErrConfig, c.Params.IdleTimeout, c.ReceiveBuffer)
	}
	if c.Params.IdleTimeout == 0 {
		c.Params.IdleTimeout = session.DefaultIdleTimeout
	}
	if c.Params.MaxDatagram == 0 {
		c.Params.MaxDatagram = session.DefaultMaxDatagram
	}
	if c.Identity.IsZero() {
		c.Identity = handshake.NewPrivateKey()
	}
	switch {
	case c.Keepalive == 0:
		c.Keepalive = defaultKeepalive
	case c.Keepalive < 0:
		c.Keepalive = 0
	}
	if c.ReceiveBuffer == 0 {
		c.ReceiveBuffer = defaultReceiveBuffer
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Network == nil {
		c.Network = HostNetwork{}
	}
	return c, nil
}

// usable reports whether a can be the address of a server.
func usable(a netip.AddrPort) bool {
	return a.Addr().IsValid() && !a.Addr().IsUnspecified() && !a.Addr().IsMulticast() && a.Port() != 0
}
