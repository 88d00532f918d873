// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/rtdump"
)

// nextIndex numbers the first end of each pair. The kernel would give both ends
// the same index in their namespaces often enough, take such a pair for a device
// without peer, and report a change of its carrier up to a second late.
var nextIndex atomic.Int32

func init() { nextIndex.Store(100) }

// Port is one end of a veth pair: a link of a namespace.
type Port struct {
	NS    *Namespace
	Link  string           // interface name
	MAC   net.HardwareAddr // nil: the kernel's choice
	Addrs []netip.Prefix   // addresses with their prefix lengths
	Down  bool             // left down
	// Queues is how many receive queues it has; 0: one. Only the first port of Connect
	// can have more, as XDP wants no fewer than the other end has to send by.
	Queues int
}

// Connect makes a veth pair between a and b, with addresses, and sets both ends
// up unless told otherwise.
//
// Both ends behave like wire: checksums are written in software, so that every
// frame carries its own whole one and can be forwarded by hand. Where DevicesEnv is
// set, they are devices that are there, with all that they offload.
func Connect(a, b Port) error {
	if Devices() {
		return connectDevices(a, b)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Index = a.Link, a.MAC, int(nextIndex.Add(1))
	attrs.NumRxQueues, attrs.NumTxQueues = max(1, a.Queues), 1
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: b.Link, PeerHardwareAddr: b.MAC, PeerNumTxQueues: 1, PeerNumRxQueues: 1,
		PeerNamespace: netlink.NsFd(b.NS.fd),
	}
	if err := a.NS.handle.LinkAdd(pair); err != nil {
		return fmt.Errorf("making veth pair %s/%s - %s/%s: %w", a.NS.name, a.Link, b.NS.name, b.Link, err)
	}
	for _, p := range []Port{a, b} {
		if err := p.configure(); err != nil {
			return err
		}
	}
	if a.Down || b.Down {
		return nil
	}
	return errors.Join(a.NS.WaitUp(a.Link), b.NS.WaitUp(b.Link))
}

func (p Port) configure() error {
	if err := p.NS.ethtool(p.Link, unix.ETHTOOL_STXCSUM, 0); err != nil {
		return err
	}
	if err := p.addresses(); err != nil {
		return err
	}
	return p.setUp()
}

func (p Port) addresses() error {
	for _, addr := range p.Addrs {
		if err := p.NS.AddAddr(p.Link, addr); err != nil {
			return err
		}
	}
	return nil
}

func (p Port) setUp() error {
	if p.Down {
		return nil
	}
	return p.NS.SetUp(p.Link, true)
}

// OffloadChecksums gives a link the checksums to do that Connect has taken from it.
// Without that the kernel sends no train (UDP_SEGMENT) over it whole.
func (n *Namespace) OffloadChecksums(link string) error {
	return n.ethtool(link, unix.ETHTOOL_STXCSUM, 1)
}

// ethtool switches one offload of a link (struct ethtool_value of linux/ethtool.h).
func (n *Namespace) ethtool(link string, command, value uint32) error {
	arg := struct{ command, value uint32 }{command, value}
	return n.ethtoolIoctl(link, command, unsafe.Pointer(&arg))
}

// ethtoolIoctl makes the request that arg holds, which begins with its command.
func (n *Namespace) ethtoolIoctl(link string, command uint32, arg unsafe.Pointer) error {
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of the kernel's union
	}
	copy(req.name[:unix.IFNAMSIZ-1], link)
	req.data = arg
	err := n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		runtime.KeepAlive(arg)
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("namespace %s: ethtool command %#x on %s: %w", n.name, command, link, err)
	}
	return nil
}

// link finds an interface of the namespace by name.
func (n *Namespace) link(name string) (netlink.Link, error) {
	l, err := n.handle.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("namespace %s: link %s: %w", n.name, name, err)
	}
	return l, nil
}

// Index is the interface index of a link.
func (n *Namespace) Index(link string) (int, error) {
	l, err := n.link(link)
	if err != nil {
		return 0, err
	}
	return l.Attrs().Index, nil
}

// SetUp sets a link up or down. The kernel removes the routes of a link that
// goes down, and its IPv6 addresses.
func (n *Namespace) SetUp(link string, up bool) error {
	l, err := n.link(link)
	if err != nil {
		return err
	}
	set, state := n.handle.LinkSetUp, "up"
	if !up {
		set, state = n.handle.LinkSetDown, "down"
	}
	if err := set(l); err != nil {
		return fmt.Errorf("namespace %s: setting %s %s: %w", n.name, link, state, err)
	}
	return nil
}

// WaitUp waits until the kernel has taken note that a link carries: after a
// change it may take up to a second, in which packets are still dropped.
func (n *Namespace) WaitUp(link string) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l, err := n.link(link)
		if err != nil {
			return err
		}
		if l.Attrs().OperState == netlink.OperUp {
			// The state is set just before the queue opens, under a lock that this takes too.
			return n.SetUp(link, true)
		}
		if time.Now().After(end) {
			return fmt.Errorf("namespace %s: %s does not come up: it is %s", n.name, link, l.Attrs().OperState)
		}
	}
}

// WaitIPv6 waits until a link can resolve IPv6 neighbours: the kernel gives it a
// link-local address a moment after it is up, and a question asked before is
// repeated only after a second.
func (n *Namespace) WaitIPv6(link string) error {
	l, err := n.link(link)
	if err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		addrs, err := rtdump.Whole(func() ([]netlink.Addr, error) { return n.handle.AddrList(l, unix.AF_INET6) })
		if err != nil {
			return fmt.Errorf("namespace %s: addresses of %s: %w", n.name, link, err)
		}
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("namespace %s: %s gets no link-local address: is IPv6 disabled?", n.name, link)
		}
	}
}

// AddAddr gives a link an address, without duplicate address detection, so that
// it can be used at once. An address that is there already is no error.
func (n *Namespace) AddAddr(link string, addr netip.Prefix) error {
	l, err := n.link(link)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := n.handle.AddrReplace(l, a); err != nil {
		return fmt.Errorf("namespace %s: adding %s to %s: %w", n.name, addr, link, err)
	}
	return nil
}

// DelAddr takes an address from a link. One that is not there is no error.
func (n *Namespace) DelAddr(link string, addr netip.Prefix) error {
	l, err := n.link(link)
	if err != nil {
		return err
	}
	err = n.handle.AddrDel(l, &netlink.Addr{IPNet: ipNet(addr)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("namespace %s: removing %s from %s: %w", n.name, addr, link, err)
	}
	return nil
}

// Route is one entry of a namespace's routing tables.
type Route struct {
	Dst    netip.Prefix // 0.0.0.0/0 or ::/0 for a default route
	Via    netip.Addr   // gateway; invalid for a blackhole
	Link   string       // empty for a blackhole
	Metric int          // the smaller wins
	Table  int          // 0: the main one
}

// AddRoute adds or replaces r. A route without link drops what it matches, and
// says nothing to the sender.
func (n *Namespace) AddRoute(r Route) error {
	route, err := n.route(r)
	if err != nil {
		return err
	}
	if err := n.handle.RouteReplace(route); err != nil {
		return fmt.Errorf("namespace %s: adding route %+v: %w", n.name, r, err)
	}
	return nil
}

// DelRoute removes r. One that is not there is no error.
func (n *Namespace) DelRoute(r Route) error {
	route, err := n.route(r)
	if err != nil {
		return err
	}
	if err := n.handle.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("namespace %s: removing route %+v: %w", n.name, r, err)
	}
	return nil
}

func (n *Namespace) route(r Route) (*netlink.Route, error) {
	route := &netlink.Route{Dst: ipNet(r.Dst), Priority: r.Metric, Table: r.Table, Family: unix.AF_INET}
	if r.Dst.Addr().Is6() {
		route.Family = unix.AF_INET6
	}
	if r.Link == "" {
		route.Type = unix.RTN_BLACKHOLE
		return route, nil
	}
	l, err := n.link(r.Link)
	if err != nil {
		return nil, err
	}
	route.LinkIndex, route.Gw = l.Attrs().Index, r.Via.AsSlice()
	return route, nil
}

// RouteBySource makes what is sent from an address look up a table of its own,
// before the main one.
func (n *Namespace) RouteBySource(source netip.Addr, table int) error {
	rule := netlink.NewRule()
	rule.Src, rule.Table, rule.Priority, rule.Family = ipNet(netip.PrefixFrom(source, source.BitLen())), table, table, unix.AF_INET
	if source.Is6() {
		rule.Family = unix.AF_INET6
	}
	if err := n.handle.RuleAdd(rule); err != nil {
		return fmt.Errorf("namespace %s: rule from %s to table %d: %w", n.name, source, table, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// AddNeighbour makes a neighbour known for good, so that nobody asks for it: no
// packet waits for an answer, and none is lost by waiting.
func (n *Namespace) AddNeighbour(link string, addr netip.Addr, mac net.HardwareAddr) error {
	l, err := n.link(link)
	if err != nil {
		return err
	}
	err = n.handle.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: addr.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT})
	if err != nil {
		return fmt.Errorf("namespace %s: neighbour %s on %s: %w", n.name, addr, link, err)
	}
	return nil
}

// LinkStats are a link's counters.
func (n *Namespace) LinkStats(link string) (netlink.LinkStatistics, error) {
	l, err := n.link(link)
	if err != nil {
		return netlink.LinkStatistics{}, err
	}
	return *l.Attrs().Statistics, nil
}
