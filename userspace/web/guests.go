// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// guests is a listener that bounds what strangers can hold: the connections on which
// nobody has shown the token yet. One more is always let in, and the one that came
// first goes in its place, from the same network if that has its share, or else of
// all. So whoever has the token has the time of many strangers to show it, and then
// is none of them; where there is no token, all are guests and none is held up.
type guests struct {
	net.Listener

	mu   sync.Mutex
	open []*guest // as they came
}

const (
	// maxGuests is how many there are at a time, guestShare how many from one network:
	// an IPv4 address or an IPv6 /64. On loopback, where a proxy speaks for everyone,
	// that is all of them.
	maxGuests  = 64
	guestShare = 8
)

// guest is a connection of somebody who may be a stranger.
type guest struct {
	net.Conn
	of   *guests
	from netip.Prefix
}

// Accept waits for the next connection.
func (g *guests) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &guest{conn, g, network(conn.RemoteAddr())}
	g.mu.Lock()
	out := g.crowdedOut(c.from)
	g.open = append(g.open, c)
	g.mu.Unlock()
	if out != nil {
		out.Close()
	}
	return c, nil
}

// crowdedOut returns who has to go for another one from there, or nil. The caller
// holds g.mu.
func (g *guests) crowdedOut(from netip.Prefix) *guest {
	if !from.Addr().IsLoopback() {
		first, number := (*guest)(nil), 0
		for _, c := range g.open {
			if c.from == from {
				if first == nil {
					first = c
				}
				number++
			}
		}
		if number >= guestShare {
			return first
		}
	}
	if len(g.open) >= maxGuests {
		return g.open[0]
	}
	return nil
}

// network is whom a share is for.
func network(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // fits
	return p
}

// leave makes the connection one of somebody known, or of nobody.
func (c *guest) leave() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.open = slices.DeleteFunc(c.of.open, func(other *guest) bool { return other == c })
}

// Close closes the connection.
func (c *guest) Close() error {
	c.leave()
	return c.Conn.Close()
}

type guestKey struct{}

// introduce notes in the context of a connection's requests which it is.
func introduce(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, guestKey{}, c)
}

// recognise notes that the request's connection is that of somebody with the token.
func recognise(ctx context.Context) {
	if c, ok := ctx.Value(guestKey{}).(*guest); ok {
		c.leave()
	}
}
