// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// addresses are where host:port may be, in the order to try them. localhost is
// both loopbacks, whatever the host's files say: a program that listens on one of
// them alone is there all the same.
func addresses(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	var found []netip.Addr
	if host == "localhost" {
		found = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	} else if one, err := netip.ParseAddr(host); err == nil {
		found = []netip.Addr{one}
	} else if found, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	for _, a := range found {
		list = append(list, netip.AddrPortFrom(a.Unmap(), uint16(port)))
	}
	return list, nil
}

// dial connects to address, at the first of its places that answers.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	if network == "unix" {
		return dialUnix(ctx, &d, address)
	}
	if host, _, _ := net.SplitHostPort(address); host != "localhost" {
		return d.DialContext(ctx, network, address) // it tries both families beside each other
	}
	list, err := addresses(ctx, address)
	if err != nil {
		return nil, err
	}
	var first error
	for _, a := range list {
		conn, err := d.DialContext(ctx, network, a.String())
		if err == nil {
			return conn, nil
		}
		// The other family's refusal says more than that a family is missing.
		if first == nil || errors.Is(err, syscall.ECONNREFUSED) {
			first = err
		}
	}
	return nil, first
}

// fullPause is how long a full socket is left alone.
const fullPause = 10 * time.Millisecond

// dialUnix waits while the socket has as many connections that its program did not
// accept yet as it takes: connect(2) says EAGAIN then, where TCP would wait.
func dialUnix(ctx context.Context, d *net.Dialer, address string) (net.Conn, error) {
	for {
		conn, err := d.DialContext(ctx, "unix", address)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(fullPause):
		}
	}
}
