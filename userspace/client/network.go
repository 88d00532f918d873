// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Network is the part of the system that roaming is about. A program whose
// sessions live in another network namespace, or a test, brings its own.
type Network interface {
	// Source returns the address from which the system would now send to remote,
	// or an error if it has no route.
	Source(remote netip.AddrPort) (netip.Addr, error)
	// Listen opens a socket at one of our addresses, on any port.
	Listen(local netip.Addr) (netio.Conn, error)
	// Watch calls changed whenever the answers of Source may have changed, from one
	// goroutine, until ctx ends.
	Watch(ctx context.Context, changed func()) error
}

// HostNetwork is the network of this process.
type HostNetwork struct{}

// Source asks the system by connecting a UDP socket, which sends nothing.
func (HostNetwork) Source(remote netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote))
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the address is in it once more
		}
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// readBuffer is asked of the system for each socket, room for a few
// milliseconds of a fast stream.
const readBuffer = 1 << 20

// Listen opens a UDP socket. It is bound to the address and not to the wildcard:
// otherwise packets under the old id would leave from the new address between a
// change and our notice of it, which would link the two for every observer.
func (HostNetwork) Listen(local netip.Addr) (netio.Conn, error) {
	return netio.ListenUDP(netio.Config{Addr: netip.AddrPortFrom(local, 0), ReadBuffer: readBuffer})
}

// Watch waits for the system's word of a change (Linux: rtnetlink), or looks
// every second where there is none.
func (HostNetwork) Watch(ctx context.Context, changed func()) error {
	err := watch(ctx, changed)
	if errors.Is(err, errors.ErrUnsupported) {
		return poll(ctx, changed)
	}
	return err
}

// pollEvery is how often the system is asked where it tells nothing by itself.
const pollEvery = time.Second

func poll(ctx context.Context, changed func()) error {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			changed()
		}
	}
}

// Resolve returns the addresses of a server named as host, host:port, address or
// [address]:port, in the order of the resolver's preference. Without a port it
// is wire.DefaultPort.
func Resolve(ctx context.Context, server string) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddr(server); err == nil { // also 2001:db8::1 without brackets
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), wire.DefaultPort)}, nil
	}
	host, portText, err := net.SplitHostPort(server)
	var addrErr *net.AddrError
	if errors.As(err, &addrErr) && addrErr.Err == "missing port in address" {
		host, portText, err = server, strconv.Itoa(wire.DefaultPort), nil
	}
	if err != nil || host == "" {
		return nil, fmt.Errorf("%w: server %q: write host, host:port or [IPv6 address]:port", ErrConfig, server)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("%w: server %q: the port is a number from 1 to 65535", ErrConfig, server)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w: check the name and this host's DNS", server, err)
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return addrs, nil
}
