// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Resolve returns the addresses of a server named as host, host:port, address or
// [address]:port, in the order of the resolver's preference. Without a port it
// is wire.DefaultPort.
func Resolve(ctx context.Context, server string) ([]netip.AddrPort, error) {
	host, port, err := SplitServer(server)
	if err != nil {
		return nil, err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), port)}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w: check the name and this host's DNS", server, err)
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), port)
	}
	return addrs, nil
}

// SplitServer takes the name of a server, as Config.Server has it, apart. Its
// errors wrap ErrConfig.
func SplitServer(server string) (host string, port uint16, err error) {
	if _, err := netip.ParseAddr(server); err == nil { // also 2001:db8::1 without brackets
		return server, wire.DefaultPort, nil
	}
	host, portText, err := net.SplitHostPort(server)
	var addrErr *net.AddrError
	if errors.As(err, &addrErr) && addrErr.Err == "missing port in address" {
		host, portText, err = server, strconv.Itoa(wire.DefaultPort), nil
	}
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("%w: server %q: write host, host:port or [IPv6 address]:port", ErrConfig, server)
	}
	n, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%w: server %q: the port is a number from 1 to 65535", ErrConfig, server)
	}
	return host, uint16(n), nil
}
