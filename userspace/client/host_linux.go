// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/rtdump"
)

// wayBy returns the way through an interface. Before Linux 5.7 binding to one
// takes privileges: then the address alone has to do, as it does where routes
// depend on it.
func wayBy(i net.Interface, remote netip.AddrPort) (Way, bool) {
	if !routed(i.Index, remote.Addr()) {
		return Way{}, false
	}
	addr, err := source(remote, net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var optErr error
		err := raw.Control(func(fd uintptr) { optErr = unix.BindToDevice(int(fd), i.Name) })
		return errors.Join(err, optErr)
	}})
	switch {
	case err == nil:
		return Way{addr, i.Name}, true
	case errors.Is(err, unix.EPERM):
		addr, ok := addressOf(i, remote)
		return Way{Addr: addr}, ok
	}
	return Way{}, false
}

// routed reports whether any table has a route to addr through an interface. It
// has to be asked: on an interface without a route, a socket bound to it takes
// every IPv4 address for a neighbour's.
func routed(index int, addr netip.Addr) bool {
	family := netlink.FAMILY_V6
	if addr.Is4() {
		family = netlink.FAMILY_V4
	}
	// Of all tables: policy routing is what keeps the others for.
	routes, err := rtdump.Whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return true // where netlink is kept away the probes tell
	}
	return slices.ContainsFunc(routes, func(r netlink.Route) bool {
		if r.Type != unix.RTN_UNICAST || r.Dst != nil && !r.Dst.Contains(addr.AsSlice()) {
			return false
		}
		return r.LinkIndex == index ||
			slices.ContainsFunc(r.MultiPath, func(hop *netlink.NexthopInfo) bool { return hop.LinkIndex == index })
	})
}

func slept() time.Duration {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - mono.Nano())
}
