// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"net"
	"net/netip"
)

// The addresses of the topology; all are from ranges kept for documentation or
// for private networks.
var (
	EdgeV4     = netip.MustParseAddr("203.0.113.1")
	EdgeV6     = netip.MustParseAddr("2001:db8:e::1")
	BackendV4  = netip.MustParseAddr("10.9.0.2") // reached by the edge alone
	AttackerV4 = netip.MustParseAddr("192.0.2.66")
	AttackerV6 = netip.MustParseAddr("2001:db8:bad::66")
)

// Links of the topology's hosts.
const (
	EdgeLink     = "eth0" // of the edge, towards everybody; XDP goes here
	AttackerLink = "eth0"
)

// Hardware addresses on the attacker's link: its own, and that of the core, which
// forwards frames with any source address.
var (
	AttackerMAC     = [6]byte(mac(0xa1))
	AttackerGateway = [6]byte(mac(0xa2))
)

// Topology is a small internet of veth pairs:
//
//	           10.1.0.0/24               198.51.100.10
//	       ┌── neta ───────── router A ─────────────┐
//	       │   10.2.0.0/24               198.51.100.20
//	client ┼── netb ───────── router B ─────────── core ── edge ── backend
//	       │                                        │ │
//	       └── net6 ─── 2001:db8:6::/64 ────────────┘ attacker
//
// The routers run a [NAT] each; IPv6 has none. The core forwards anything,
// spoofed sources as well, and drops silently what has no route. The client
// starts on no network: see [Access.Join]. As on a telephone, what it sends from
// an address of a network leaves through that network, whatever the default
// route is.
type Topology struct {
	Client, Core, Edge, Backend, Attacker *Namespace
	A, B, Six                             *Access

	closers []func() error
}

// Access is a network that the client can join, through a link of its own.
type Access struct {
	Name    string
	Client  *Namespace
	Link    string // of Client
	Addr    netip.Prefix
	Gateway netip.Addr
	Router  *Namespace // the other end of Link
	NAT     *NAT       // of Router; nil on IPv6
	Public  netip.Addr // where the client is seen from
	Tap     string     // the core's link to this network: what passes there can be sniffed

	inward string // the link of Router at the other end of Link
	table  int    // of Client: where packets from Addr look their route up
}

// NewTopology builds it; on error, nothing is left. Close removes all.
func NewTopology() (t *Topology, err error) {
	t = &Topology{}
	defer func() {
		if err != nil {
			t.Close()
			t = nil
		}
	}()
	for _, host := range []struct {
		name string
		ns   **Namespace
	}{{"client", &t.Client}, {"core", &t.Core}, {"edge", &t.Edge}, {"backend", &t.Backend}, {"attacker", &t.Attacker}} {
		if *host.ns, err = t.namespace(host.name); err != nil {
			return t, err
		}
	}
	if err = t.buildCore(); err != nil {
		return t, err
	}
	if t.A, err = t.natted("A", 1, netip.MustParseAddr("198.51.100.10")); err != nil {
		return t, err
	}
	if t.B, err = t.natted("B", 2, netip.MustParseAddr("198.51.100.20")); err != nil {
		return t, err
	}
	if t.Six, err = t.ipv6(); err != nil {
		return t, err
	}
	return t, errors.Join(t.Core.WaitIPv6("edge"), t.Edge.WaitIPv6(EdgeLink),
		t.Core.WaitIPv6("attacker"), t.Attacker.WaitIPv6(AttackerLink))
}

// Close removes everything and kills what runs in the namespaces.
func (t *Topology) Close() error {
	var errs []error
	for i := len(t.closers) - 1; i >= 0; i-- {
		errs = append(errs, t.closers[i]())
	}
	t.closers = nil
	return errors.Join(errs...)
}

// namespace makes a host that configures no IPv6 address by itself and checks no
// source address.
func (t *Topology) namespace(name string) (*Namespace, error) {
	n, err := NewNamespace(name)
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, n.Close)
	for _, s := range [][2]string{
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/default/accept_dad", "0"}, // addresses are usable at once
	} {
		if err := n.Sysctl(s[0], s[1]); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// buildCore makes the core with the edge, the backend and the attacker.
func (t *Topology) buildCore() error {
	for _, s := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := t.Core.Sysctl(s, "1"); err != nil {
			return err
		}
	}
	// Answers to spoofed sources end here, without an ICMP error.
	for _, everything := range []string{"0.0.0.0/0", "::/0"} {
		if err := t.Core.AddRoute(Route{Dst: netip.MustParsePrefix(everything)}); err != nil {
			return err
		}
	}
	for _, wire := range []struct{ a, b Port }{
		{Port{NS: t.Edge, Link: EdgeLink, MAC: mac(0xe1), Addrs: prefixes("203.0.113.1/24", "2001:db8:e::1/64")},
			Port{NS: t.Core, Link: "edge", MAC: mac(0xe2), Addrs: prefixes("203.0.113.254/24", "2001:db8:e::fe/64")}},
		{Port{NS: t.Attacker, Link: AttackerLink, MAC: mac(0xa1), Addrs: prefixes("192.0.2.66/26", "2001:db8:bad::66/64")},
			Port{NS: t.Core, Link: "attacker", MAC: mac(0xa2), Addrs: prefixes("192.0.2.65/26", "2001:db8:bad::fe/64")}},
		{Port{NS: t.Edge, Link: "inside", MAC: mac(0xb1), Addrs: prefixes("10.9.0.1/24")},
			Port{NS: t.Backend, Link: "eth0", MAC: mac(0xb2), Addrs: prefixes("10.9.0.2/24")}},
	} {
		if err := Connect(wire.a, wire.b); err != nil {
			return err
		}
	}
	if err := t.Core.ReceiveXDP("edge"); err != nil {
		return err
	}
	for _, host := range []struct {
		ns   *Namespace
		link string
		via  []string
	}{
		{t.Edge, EdgeLink, []string{"203.0.113.254", "2001:db8:e::fe"}},
		{t.Attacker, AttackerLink, []string{"192.0.2.65", "2001:db8:bad::fe"}},
	} {
		for _, via := range host.via {
			if err := host.ns.AddRoute(defaultRoute(netip.MustParseAddr(via), host.link, 0)); err != nil {
				return err
			}
		}
	}
	return nil
}

// natted makes an IPv4 access network behind a NAT router; number is its own.
func (t *Topology) natted(name string, number byte, public netip.Addr) (*Access, error) {
	router, err := t.namespace("router-" + name)
	if err != nil {
		return nil, err
	}
	// A new namespace may inherit the host's setting.
	if err := router.Sysctl("ipv4/ip_forward", "0"); err != nil {
		return nil, err
	}
	inside := func(host byte) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, number, 0, host}), 24)
	}
	transit := func(host byte) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, number*4 + host}), 30)
	}
	a := &Access{
		Name: name, Client: t.Client, Link: map[string]string{"A": "neta", "B": "netb"}[name],
		Addr: inside(2), Gateway: inside(1).Addr(), Router: router, inward: "inside", table: 100 + int(number), Public: public, Tap: "router-" + name,
	}
	host, inner, outer, gateway := mac(number<<4|1), mac(number<<4|2), mac(number<<4|3), mac(number<<4|4)
	if err := Connect(Port{NS: t.Client, Link: a.Link, MAC: host, Down: true},
		Port{NS: router, Link: a.inward, MAC: inner, Addrs: []netip.Prefix{inside(1)}}); err != nil {
		return nil, err
	}
	if err := Connect(Port{NS: router, Link: "outside", MAC: outer, Addrs: []netip.Prefix{transit(2)}},
		Port{NS: t.Core, Link: a.Tap, MAC: gateway, Addrs: []netip.Prefix{transit(1)}}); err != nil {
		return nil, err
	}
	err = t.Core.AddRoute(Route{Dst: netip.PrefixFrom(public, 32), Via: transit(2).Addr(), Link: a.Tap})
	if err != nil {
		return nil, err
	}
	a.NAT, err = StartNAT(NATConfig{
		NS: router, Inner: a.inward, Outer: "outside", InnerMAC: inner, OuterMAC: outer,
		HostMAC: host, GatewayMAC: gateway, Network: inside(0), Public: public,
	})
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, a.NAT.Close)
	return a, t.Client.RouteBySource(a.Addr.Addr(), a.table)
}

// ipv6 makes the IPv6 access network, without NAT, on the core itself.
func (t *Topology) ipv6() (*Access, error) {
	addr, gateway := netip.MustParsePrefix("2001:db8:6::2/64"), netip.MustParsePrefix("2001:db8:6::1/64")
	a := &Access{
		Name: "IPv6", Client: t.Client, Link: "net6", Addr: addr, Gateway: gateway.Addr(),
		Router: t.Core, inward: "net6", table: 106, Public: addr.Addr(), Tap: "net6",
	}
	err := Connect(Port{NS: t.Client, Link: a.Link, MAC: mac(0x61), Down: true},
		Port{NS: t.Core, Link: a.Tap, MAC: mac(0x62), Addrs: []netip.Prefix{gateway}})
	if err != nil {
		return nil, err
	}
	return a, t.Client.RouteBySource(addr.Addr(), a.table)
}

// Join brings the client onto the network: link up, address, default route. Of
// several default routes of a family the smallest metric wins. Within a second
// of a Leave it may take a second.
func (a *Access) Join(metric int) error {
	if err := a.Attach(); err != nil {
		return err
	}
	return a.Client.AddRoute(a.Route(metric))
}

// Attach is Join without the default route, which can be added at a chosen
// instant then: until it is there, nothing takes this network.
func (a *Access) Attach() error {
	if err := a.Client.SetUp(a.Link, true); err != nil {
		return err
	}
	err := errors.Join(a.Client.WaitUp(a.Link), a.Router.WaitUp(a.inward))
	if err == nil && a.Addr.Addr().Is6() {
		err = errors.Join(a.Client.WaitIPv6(a.Link), a.Router.WaitIPv6(a.inward))
	}
	if err != nil {
		return err
	}
	if err := a.Client.AddAddr(a.Link, a.Addr); err != nil {
		return err
	}
	own := a.Route(0)
	own.Table = a.table
	return a.Client.AddRoute(own)
}

// Leave takes the link down and its address and routes away, as when a cable is
// pulled or a radio lost: what is on the way is lost.
func (a *Access) Leave() error {
	if err := a.Client.SetUp(a.Link, false); err != nil {
		return err
	}
	return a.Client.DelAddr(a.Link, a.Addr)
}

// Route is the default route of the network, to be added or removed alone.
func (a *Access) Route(metric int) Route { return defaultRoute(a.Gateway, a.Link, metric) }

func defaultRoute(via netip.Addr, link string, metric int) Route {
	return Route{Dst: netip.PrefixFrom(unspecified(via), 0), Via: via, Link: link, Metric: metric}
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// mac is a locally administered hardware address.
func mac(number byte) net.HardwareAddr {
	return net.HardwareAddr{0x02, 'r', 'o', 'a', 'm', number}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}
