// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net/netip"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// route is a way from the client's programs to the servers of the edge.
type route struct {
	by   string     // what carries the bytes
	host string     // its name in the client's ssh configuration
	addr netip.Addr // where the programs find the servers
	base int        // what is added to a server's port there
}

var (
	overRoam = route{byRoam, "roam", netip.AddrFrom4([4]byte{127, 0, 0, 1}), localBase}
	// overTCP is plain TCP over IPv6, which alone has no NAT between: a NAT of the
	// lab's is a program, and carries no TCP.
	overTCP       = route{byPlain, "plain", lab.EdgeV6, 0}
	overWireGuard = route{byWireGuard, "wireguard", wgEdge.Addr(), 0}
)

// port is where a server's port is on this route.
func (r route) port(server int) int { return r.base + server }

func (r route) addrPort(server int) netip.AddrPort {
	return netip.AddrPortFrom(r.addr, uint16(r.port(server)))
}

// url is that of what nginx serves.
func (r route) url(path string) string {
	return fmt.Sprintf("http://%v/%s", r.addrPort(portWeb), path)
}
