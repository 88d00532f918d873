// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
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
	// Workers is the number of workers, each with its own sockets; default GOMAXPROCS.
	Workers int
	// Static is the server's identity, PSK a secret shared with every client (zero: none).
	Static handshake.PrivateKey
	PSK    handshake.PSK
	// Previous are the identities before Static, at most maps.MaxMAC1Keys - 1:
	// while a key is rotated, clients that know the server by either are served.
	Previous []handshake.PrivateKey
	// Addresses are where the server can be reached, at most 8, for instance on
	// another link: clients hear of them and go there when the one that they use
	// fails. Not needed for the address that a client speaks to already.
	Addresses []netip.AddrPort
	// Authorize decides who may use a service. It is asked before HasService, so
	// that a key on no list learns nothing else, and again when the client confirms.
	// It must be quick and safe for concurrent use. Nil: anyone.
	Authorize func(key handshake.PublicKey, service uint16) Access
	// Precomputed gives the room that is kept for a client that Authorize knows, and nil
	// for others: it spares a quarter of each handshake after the first one. Like
	// Authorize it must be quick and safe for concurrent use; it is asked for keys whose
	// owner has proven nothing yet. Nil: none is kept.
	Precomputed func(key handshake.PublicKey) *handshake.Precomputed
	// HasService says whether there is a service. Nil: every one.
	HasService func(service uint16) bool
	// State is what ids, cookies and resets hang on; zero: a fresh one, which is
	// right for a library and wrong for a daemon that restarts.
	State handshake.State
	// SaveState keeps a State that takes the place of was, before the server acts
	// on it: see Server.RotateState. Nil: nothing is kept.
	SaveState func(was, now handshake.State) error
	// ServerID tells the servers of a fleet apart that share a State; 0: a single one.
	ServerID uint16
	// Cookie says when a client must prove its address before a handshake.
	Cookie CookiePolicy
	// Params is what clients are told; zero fields: 24 h, and the largest
	// datagram that four parts carry on every path.
	Params handshake.Params
	// TableSlots is the size of the session table without a data plane, a
	// power of two; default 65,536. A session takes 3 of them and at most 75 %
	// can be used.
	TableSlots uint32
	// Maps is the data plane that steers packets to this server. Nil: none;
	// the kernel's hash chooses the socket then, and all works, only unfiltered.
	Maps *maps.Set
	// NoGRO keeps the kernel from joining packets of one flow before they reach the
	// server (UDP_GRO). It is for interfaces whose XDP program the kernel runs behind
	// that (generic XDP): it would judge a whole train by its first packet.
	NoGRO bool
	// Log gets what an operator wants to know, from a goroutine of its own: what it
	// is too slow for is dropped, see Stats.LogDropped. Nil: nothing is logged.
	Log *slog.Logger
	// Events gets what happens to sessions, with their locks held: it must be quick,
	// must not call the session, and is called from several goroutines. Nil: nobody.
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
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Workers < 0 || c.Workers > math.MaxUint16 {
		return c, fmt.Errorf("%w: %d workers: give 1 to %d, or 0 for one a CPU", ErrConfig, c.Workers, math.MaxUint16)
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
	// CookieAuto demands one while INITs without come faster than
	// Limits.UncookiedRate, and of a source beyond its limits. The default.
	CookieAuto CookiePolicy = iota
	// CookieAlways demands one of every INIT: a round trip more, always.
	CookieAlways
	// CookieNever demands none. What exceeds a limit is dropped, so a flood of
	// forged INITs keeps honest clients out.
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
