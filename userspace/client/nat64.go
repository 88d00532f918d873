// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net"
	"net/netip"
	"slices"
)

// A network of IPv6 alone reaches IPv4 through a translator (NAT64). Names get
// their translated addresses from its resolver; a server that is known by an IPv4
// address needs the translator's prefix, which a well-known name tells (RFC 7050).

// nat64Name has the addresses nat64Known, and no IPv6 address but a translator's.
const nat64Name = "ipv4only.arpa"

var nat64Known = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}

// nat64Lengths are those that a prefix may have, in bytes (RFC 6052 section 2.2).
var nat64Lengths = []int{12, 8, 7, 6, 5, 4}

// embed puts an IPv4 address behind a prefix of n bytes. Byte 8 is always zero.
func embed(prefix netip.Addr, n int, four netip.Addr) netip.Addr {
	p := prefix.As16()
	clear(p[n:])
	b, at := four.As4(), n
	for _, v := range b {
		if at == 8 {
			at++
		}
		p[at] = v
		at++
	}
	return netip.AddrFrom16(p)
}

// translate returns the address of an IPv4 address behind the translator that
// gave known, an IPv6 address of nat64Name.
func translate(known, four netip.Addr) (netip.Addr, bool) {
	if !known.Is6() || known.Is4In6() || !four.Is4() {
		return netip.Addr{}, false
	}
	for _, n := range nat64Lengths {
		for _, k := range nat64Known {
			if embed(known, n, k) == known {
				return embed(known, n, four), true
			}
		}
	}
	return netip.Addr{}, false
}

// translated returns the addresses of IPv4 servers behind this network's
// translator, if it has one.
func translated(ctx context.Context, servers []netip.AddrPort) (out []netip.AddrPort) {
	known, err := net.DefaultResolver.LookupNetIP(ctx, "ip6", nat64Name)
	if err != nil {
		return nil
	}
	for _, s := range servers {
		for _, k := range known {
			if a, ok := translate(k, s.Addr()); ok && !slices.Contains(out, netip.AddrPortFrom(a, s.Port())) {
				out = append(out, netip.AddrPortFrom(a, s.Port()))
			}
		}
	}
	return out
}
