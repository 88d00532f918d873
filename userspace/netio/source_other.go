// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package netio

import (
	"net"
	"net/netip"
)

// Sources asks the kernel which address it would send from.
type Sources struct{}

// To returns the address that packets to remote would leave from; the zero Addr
// where there is no way to it.
func (*Sources) To(remote netip.AddrPort) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote)) // sends nothing
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// Close is there for systems that keep sockets.
func (*Sources) Close() {}
