// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

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
// decided already; an address that is missing in XDP is so only unfiltered.
func (i *Instance) syncListeners() error {
	var list []maps.Listener
	for _, l := range i.listening {
		list = append(list, maps.Listener{Addr: l.addr, Index: l.index})
		if !l.addr.Addr().IsUnspecified() {
			continue
		}
		addrs, err := i.hostAddrs(l.addr.Addr())
		if err != nil {
			return err
		}
		for _, a := range addrs {
			list = append(list, maps.Listener{Addr: netip.AddrPortFrom(a, l.addr.Port()), Index: l.index})
		}
	}
	return i.Maps.Listeners.Replace(list)
}

// hostAddrs returns the unicast addresses that a socket bound to the
// unspecified address is reached at: of both families with [::].
func (i *Instance) hostAddrs(unspecified netip.Addr) ([]netip.Addr, error) {
	family := netlink.FAMILY_ALL
	if unspecified.Is4() {
		family = netlink.FAMILY_V4
	}
	list, err := i.netlink.AddrList(nil, family)
	if err != nil {
		return nil, fmt.Errorf("listing this host's addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.IsMulticast() {
			addrs = append(addrs, ip.Unmap())
		}
	}
	return addrs, nil
}
