// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Config says what a server is and whom it serves. Only Static must be set.
type Config struct {
	// Listen is the UDP address; the default is [::]:7626, both families.
	Listen netip.AddrPort
	// Workers is the number of workers, each with its own sockets: at most maps.MaxWorkers; default GOMAXPROCS.
	Workers int
	// Static is the server's identity, PSK a secret shared with every client (zero: none).
	Static handshake.PrivateKey
	PSK    handshake.PSK
	// Previous are the identities before Static, at most maps.MaxMAC1Keys - 1. During key
	// rotation, clients that know the server by any of them are served.
	Previous []handshake.PrivateKey
	// Addresses are further addresses of the server, at most 8, for instance on another
	// link. They are announced to clients, which move there when the address that they
	// use fails. The address that a client already uses need not be listed.
	Addresses []netip.AddrPort
	// Authorize decides who may use a service. It is asked before HasService, so
	// that a key on no list learns nothing else, and again when the client confirms.
	// It must be quick and safe for concurrent use. Nil: anyone.
	Authorize func(key handshake.PublicKey, service uint16) Access
	// Precomputed returns the cache of a client that Authorize knows, and nil for others.
	// It saves a quarter of the cost of each handshake after the first one. Like
	// Authorize it must be quick and safe for concurrent use; it is called with keys
	// whose owner has proved nothing yet. Nil: nothing is cached.
	Precomputed func(key handshake.PublicKey) *handshake.Precomputed
	// HasService says whether there is a service. Nil: every one.
	HasService func(service uint16) bool
	// State holds the secrets behind ids, cookies and resets. Zero: a fresh one, which is
	// right for a library but wrong for a daemon that restarts.
	State handshake.State
	// SaveState stores the State that replaces was, before the server acts on it: see
	// Server.RotateState. Nil: nothing is stored.
	SaveState func(was, now handshake.State) error
	// ServerID tells the servers of a fleet apart that share a State; 0: a single one.
	ServerID uint16
	// Cookie says when a client must prove its address before a handshake.
	Cookie CookiePolicy
	// Params is announced to clients; zero fields: 24 h, and the largest datagram that
	// four parts carry on every path.
	Params handshake.Params
	// TableSlots is the size of the session table without a data plane, a
	// power of two; default 65,536. A session takes 3 of them and at most 75 %
	// can be used.
	TableSlots uint32
	// Maps is the data plane that steers packets to this server. Nil: none; then the
	// kernel's hash chooses the socket and everything works, but unfiltered.
	Maps *maps.Set
	// NoGRO keeps the kernel from joining packets of one flow before they reach the
	// server (UDP_GRO). It is for interfaces whose XDP program the kernel runs behind
	// that (generic XDP): it would judge a whole train by its first packet.
	NoGRO bool
	// Log gets messages for the operator, from a separate goroutine. What it cannot keep
	// up with is dropped, see Stats.LogDropped. Nil: nothing is logged.
	Log *slog.Logger
	// Events is called with what happens to sessions, with their locks held. It must be
	// quick and must not call the session; it is called from several goroutines. Nil: not
	// called.
	Events func(Event)
	// Limits bounds what peers can make the server do.
	Limits Limits
}

// ErrConfig means that a Config cannot be used; what wraps it says why.
var ErrConfig = errors.New("bad server configuration")

const defaultSlots = 1 << 16

func (c Config) withDefaults() (Config, error) {
	if c.Static.IsZero() {
		return c, fmt.Errorf("%w: no private key: `xdp-roam keygen` or handshake.NewPrivateKey makes one", ErrConfig)
	}
	if len(c.Previous) > maps.MaxMAC1Keys-1 {
		return c, fmt.Errorf("%w: %d previous keys: there is room for %d", ErrConfig, len(c.Previous), maps.MaxMAC1Keys-1)
	}
	if err := checkAddresses(c.Addresses); err != nil {
		return c, err
	}
	if c.Cookie > CookieNever {
		return c, fmt.Errorf("%w: cookie policy %d is unknown", ErrConfig, c.Cookie)
	}
	if !c.Listen.IsValid() {
		c.Listen = netip.AddrPortFrom(netip.IPv6Unspecified(), wire.DefaultPort)
	}
	if c.Workers == 0 {
		c.Workers = min(runtime.GOMAXPROCS(0), maps.MaxWorkers)
	}
	if c.Workers < 0 || c.Workers > maps.MaxWorkers {
		return c, fmt.Errorf("%w: %d workers: give 1 to %d, or 0 for one a CPU", ErrConfig, c.Workers, maps.MaxWorkers)
	}
	if c.Params.IdleTimeout < 0 {
		return c, fmt.Errorf("%w: idle timeout %v is negative", ErrConfig, c.Params.IdleTimeout)
	}
	if c.Params.IdleTimeout == 0 {
		c.Params.IdleTimeout = session.DefaultIdleTimeout
	}
	if c.Params.MaxDatagram == 0 {
		c.Params.MaxDatagram = session.DefaultMaxDatagram
	}
	if c.TableSlots == 0 {
		c.TableSlots = defaultSlots
	}
	if c.Authorize == nil {
		c.Authorize = func(handshake.PublicKey, uint16) Access { return Access{Allowed: true} }
	}
	if c.HasService == nil {
		c.HasService = func(uint16) bool { return true }
	}
	if c.State.IsZero() {
		c.State = handshake.NewState(handshake.NewStateSecret())
	}
	if c.SaveState == nil {
		c.SaveState = func(_, _ handshake.State) error { return nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Limits = c.Limits.withDefaults()
	return c, c.Limits.check()
}

// CookiePolicy says when a client must prove its address by a cookie (RETRY)
// before the server does any work for it.
type CookiePolicy uint8

const (
	// CookieAuto requires one while INITs without one arrive faster than
	// Limits.UncookiedRate, and from a source that exceeds its limits. The default.
	CookieAuto CookiePolicy = iota
	// CookieAlways requires one in every INIT, at the cost of an additional round trip.
	CookieAlways
	// CookieNever requires none. INITs that exceed a limit are dropped, so a flood of
	// forged ones keeps honest clients out.
	CookieNever
)

var cookiePolicies = [...]string{CookieAuto: "auto", CookieAlways: "always", CookieNever: "never"}

// String returns "auto", "always" or "never".
func (p CookiePolicy) String() string {
	if int(p) < len(cookiePolicies) {
		return cookiePolicies[p]
	}
	return fmt.Sprintf("cookie policy %d", uint8(p))
}

// MarshalText returns the name.
func (p CookiePolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText takes the name.
func (p *CookiePolicy) UnmarshalText(text []byte) error {
	for i, name := range cookiePolicies {
		if name == string(text) {
			*p = CookiePolicy(i)
			return nil
		}
	}
	return fmt.Errorf("cookie policy %q is unknown: use auto, always or never", text)
}
