// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// Network is the part of the operating system that roaming depends on. A program whose
// sessions live in another network namespace, or a test, provides its own.
type Network interface {
	// Source returns the address from which the system would now send to remote,
	// or an error if it has no route.
	Source(remote netip.AddrPort) (netip.Addr, error)
	// Ways returns every way by which remote may be reached: first the one that
	// Source names, then one for each other network that this host is on. None: no
	// network at all.
	Ways(remote netip.AddrPort) []Way
	// Listen opens a socket on one of our ways, on any port.
	Listen(way Way) (netio.Conn, error)
	// Resolve returns the addresses that a server named as in Config.Server has now,
	// seen from here: behind a translator, an IPv4 address also has one of IPv6.
	Resolve(ctx context.Context, server string) ([]netip.AddrPort, error)
	// Slept returns for how long this machine has slept, counted from an arbitrary
	// time, where the clock of package time stood still meanwhile.
	Slept() time.Duration
	// Watch calls changed whenever the answers of Source, Ways or Slept may have
	// changed, from any goroutine, until ctx ends; and once when it has begun to
	// listen, for what changed before.
	Watch(ctx context.Context, changed func()) error
}

// Way is a way out of this host: one of its addresses and, unless the system
// itself sends from there, the network interface that packets must leave by.
type Way struct {
	Addr   netip.Addr
	Device string
}

// HostNetwork is the network of this process.
type HostNetwork struct{}

// Source asks the system by connecting a UDP socket, which sends nothing.
func (HostNetwork) Source(remote netip.AddrPort) (netip.Addr, error) {
	return source(remote, net.Dialer{})
}

func source(remote netip.AddrPort, dialer net.Dialer) (netip.Addr, error) {
	conn, err := dialer.Dial("udp", remote.String())
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the address is in it once more
		}
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone(""), nil
}

// Ways asks for each interface that is up from which address the system would
// send to remote if it had to use that one. Further addresses of an interface
// share its fate, and would show the network more of this host than it needs to
// see.
func (n HostNetwork) Ways(remote netip.AddrPort) []Way {
	var ways []Way
	if addr, err := n.Source(remote); err == nil {
		ways = append(ways, Way{Addr: addr})
	}
	interfaces, _ := net.Interfaces() // without them: what the system would do
	for _, i := range interfaces {
		if i.Flags&(net.FlagUp|net.FlagRunning|net.FlagLoopback) != net.FlagUp|net.FlagRunning {
			continue
		}
		way, ok := wayBy(i, remote)
		if ok && !slices.ContainsFunc(ways, func(w Way) bool { return w.Addr == way.Addr }) {
			ways = append(ways, way)
		}
	}
	return ways
}

// addressOf returns an address of an interface in the family of remote that is
// good beyond its link.
func addressOf(i net.Interface, remote netip.AddrPort) (netip.Addr, bool) {
	addrs, _ := i.Addrs()
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() == remote.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// readBuffer is asked of the system for each socket, room for a few
// milliseconds of a fast stream.
const readBuffer = 1 << 20

// Listen opens a UDP socket. It is bound to the address and not to the wildcard:
// otherwise packets under the old id would leave from the new address between a
// change and our notice of it, which would link the two for every observer.
func (HostNetwork) Listen(way Way) (netio.Conn, error) {
	return netio.ListenUDP(netio.Config{Addr: netip.AddrPortFrom(way.Addr, 0), Device: way.Device, ReadBuffer: readBuffer, GRO: true})
}

// Resolve is the function Resolve, and asks for a translator (NAT64) where there is
// no route to any of the addresses.
func (n HostNetwork) Resolve(ctx context.Context, server string) ([]netip.AddrPort, error) {
	addrs, err := Resolve(ctx, server)
	if err != nil {
		return nil, err
	}
	routed := func(a netip.AddrPort) bool {
		_, err := n.Source(a)
		return err == nil
	}
	if !slices.ContainsFunc(addrs, routed) {
		addrs = append(addrs, translated(ctx, addrs)...)
	}
	return addrs, nil
}

// Slept compares a clock that goes on in sleep with one that does not.
func (HostNetwork) Slept() time.Duration { return slept() }

// Watch waits for the system's word of a change (Linux: rtnetlink, and a timer
// that a wake-up cancels), or looks every second where there is none.
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
