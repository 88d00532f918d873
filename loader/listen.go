// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/xdp-roam/xdp-roam/internal/rtdump"
	"github.com/xdp-roam/xdp-roam/maps"
)

// Listen tells the data plane that packets to addr are the instance's: those
// of the socket group with this index (maps.Sockets.Register). An unspecified
// address stands for every address of this host; Watch follows their changes.
func (i *Instance) Listen(addr netip.AddrPort, index uint16) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.listening = append(i.listening, listening{addr, index})
	return i.syncListeners()
}

// syncListeners makes the listeners table what the host's addresses ask for.
//
// XDP needs each address by itself: a packet to another one is passing through.
// The entry for any address is for the socket stage, where the stack has
// decided already. So an address for which the table has no place left is
// served all the same, only not filtered in XDP: that is said, and no error.
func (i *Instance) syncListeners() error {
	var asked, found []maps.Listener
	for _, l := range i.listening {
		asked = append(asked, maps.Listener{Addr: l.addr, Index: l.index})
		if !l.addr.Addr().IsUnspecified() {
			continue
		}
		addrs, err := i.hostAddrs(l.addr.Addr())
		if err != nil {
			return err
		}
		for _, a := range addrs {
			found = append(found, maps.Listener{Addr: netip.AddrPortFrom(a, l.addr.Port()), Index: l.index})
		}
	}
	err := i.Maps.Listeners.Replace(append(asked, found...))
	unfiltered := 0
	if errors.Is(err, maps.ErrListenersFull) {
		entered := make(map[maps.Listener]bool)
		for _, l := range i.Maps.Listeners.List() {
			entered[l] = true
		}
		unfiltered = missing(found, entered)
		if missing(asked, entered) == 0 {
			err = nil
		}
	}
	switch before := i.unfiltered; {
	case unfiltered == before:
	case unfiltered == 0:
		i.log.Info("XDP knows all addresses of this host again")
	default:
		i.log.Warn("XDP knows only so many addresses: packets to the others are judged at the socket alone", "unfiltered addresses", unfiltered)
	}
	i.unfiltered = unfiltered
	return err
}

func missing(list []maps.Listener, entered map[maps.Listener]bool) (n int) {
	for _, l := range list {
		if l.Addr.Addr() == netip.IPv4Unspecified() { // the table knows one unspecified address
			l.Addr = netip.AddrPortFrom(netip.IPv6Unspecified(), l.Addr.Port())
		}
		if !entered[l] {
			n++
		}
	}
	return n
}

// hostAddrs returns the unicast addresses that a socket bound to the
// unspecified address is reached at: of both families with [::]. Those of
// interfaces with XDP come first.
func (i *Instance) hostAddrs(unspecified netip.Addr) ([]netip.Addr, error) {
	family := netlink.FAMILY_ALL
	if unspecified.Is4() {
		family = netlink.FAMILY_V4
	}
	list, err := rtdump.Whole(func() ([]netlink.Addr, error) { return i.netlink.AddrList(nil, family) })
	if err != nil {
		return nil, fmt.Errorf("listing this host's addresses: %w", err)
	}
	attached := make(map[int]bool)
	for _, a := range i.attached {
		attached[a.Ifindex] = true
	}
	var first, rest []netip.Addr
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		switch {
		case !ok || ip.IsMulticast():
		case attached[a.LinkIndex]:
			first = append(first, ip.Unmap())
		default:
			rest = append(rest, ip.Unmap())
		}
	}
	return append(first, rest...), nil
}
