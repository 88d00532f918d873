// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"github.com/xdp-roam/xdp-roam/userspace/relay"
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
		return d.DialContext(ctx, network, address)
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

// why says in a sentence for the client what is wrong with the backend. It tells
// nothing of addresses behind the server.
func why(err error) (relay.Status, string) {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return relay.StatusRefused, "nothing listens at the service's address"
	case errors.Is(err, fs.ErrNotExist):
		return relay.StatusRefused, "the service's socket does not exist"
	case errors.As(err, &dns) && !dns.IsTimeout:
		return relay.StatusUnreachable, "the service's name cannot be resolved"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return relay.StatusUnreachable, "the service's host cannot be reached"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return relay.StatusTimeout, "the service did not answer in time"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return relay.StatusFailed, "the service closed the connection at once"
	case errors.Is(err, fs.ErrPermission):
		return relay.StatusFailed, "the server may not connect to the service's socket"
	}
	return relay.StatusFailed, cmp.Or(errnoText(err), "the service failed")
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

func errnoText(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return ""
}
