// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// networks is how many the clients' host is on.
const networks = 2

var serverAddr = netip.MustParseAddrPort("10.9.0.1:7626")

// topology is the clients' host and the edge, which is where this process runs, with
// a wire for each network. Nothing
// else sends on them: neighbours are known, IPv6 is off.
type topology struct {
	clients, edge *lab.Namespace
	links         [networks]string // of the same name at both ends
	addrs         [networks]netip.Addr
}

func newTopology(t *testing.T) *topology {
	t.Helper()
	w := &topology{}
	var err error
	w.clients, err = lab.NewNamespace("clients")
	must(t, err)
	w.edge, err = lab.Here("edge")
	must(t, err)
	for _, ns := range []*lab.Namespace{w.clients, w.edge} {
		t.Cleanup(func() { ns.Close() })
		for _, s := range [][2]string{
			{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"},
			{"ipv6/conf/all/disable_ipv6", "1"}, {"ipv6/conf/default/disable_ipv6", "1"},
		} {
			must(t, ns.Sysctl(s[0], s[1]))
		}
	}
	must(t, w.edge.OwnMounts()) // a BPF file system for the pins
	must(t, w.edge.AddAddr("lo", netip.PrefixFrom(serverAddr.Addr(), 32)))
	for i := range networks {
		link := fmt.Sprintf("net%d", i)
		host, gateway := netip.AddrFrom4([4]byte{10, 1, byte(i), 2}), netip.AddrFrom4([4]byte{10, 1, byte(i), 1})
		w.links[i], w.addrs[i] = link, host
		hostMAC, edgeMAC := net.HardwareAddr{2, 0, 0, 1, byte(i), 2}, net.HardwareAddr{2, 0, 0, 1, byte(i), 1}
		must(t, lab.Connect(
			lab.Port{NS: w.edge, Link: link, MAC: edgeMAC, Addrs: []netip.Prefix{netip.PrefixFrom(gateway, 24)}},
			lab.Port{NS: w.clients, Link: link, MAC: hostMAC, Addrs: []netip.Prefix{netip.PrefixFrom(host, 24)}},
		))
		must(t, w.edge.AddNeighbour(link, host, hostMAC))
		must(t, w.clients.AddNeighbour(link, gateway, edgeMAC))
		table := 100 + i
		must(t, w.clients.RouteBySource(host, table))
		must(t, w.clients.AddRoute(lab.Route{Dst: netip.PrefixFrom(serverAddr.Addr(), 32), Via: gateway, Link: link, Table: table}))
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// host is the network as one client sees it. It counts what the client's sockets
// take and bring.
type host struct {
	net     *topology
	at      atomic.Int32 // the network that it is in
	changed atomic.Pointer[func()]

	mu      sync.Mutex
	sockets []*mapped

	sent, inits      atomic.Uint64 // packets that the kernel took, INITs among them
	read, handshakes atomic.Uint64 // packets that the client read, those that are not DATA among them
	unmapped         atomic.Uint64 // came to a mapping that its NAT has forgotten
	unread           atomic.Uint64 // waited in a socket that the client closed
}

// Source implements client.Network.
func (h *host) Source(netip.AddrPort) (netip.Addr, error) { return h.net.addrs[h.at.Load()], nil }

// Ways implements client.Network.
func (h *host) Ways(netip.AddrPort) (ways []client.Way) {
	at := int(h.at.Load())
	for i := range networks {
		ways = append(ways, client.Way{Addr: h.net.addrs[(at+i)%networks]})
	}
	return ways
}

// Listen implements client.Network.
func (h *host) Listen(way client.Way) (netio.Conn, error) {
	conn, err := h.open(way.Addr)
	if err != nil {
		return nil, err
	}
	m := &mapped{host: h, conn: conn, all: []*mapping{{Conn: conn}}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sockets = append(h.sockets, m)
	return m, nil
}

func (h *host) open(addr netip.Addr) (conn netio.Conn, err error) {
	err = h.net.clients.Do(func() error {
		conn, err = netio.ListenUDP(netio.Config{Addr: netip.AddrPortFrom(addr, 0), ReadBuffer: 1 << 20, GRO: true})
		return err
	})
	return conn, err
}

// Resolve implements client.Network.
func (h *host) Resolve(context.Context, string) ([]netip.AddrPort, error) {
	return nil, errors.New("there are no names here")
}

// Slept implements client.Network.
func (h *host) Slept() time.Duration { return 0 }

// Watch implements client.Network.
func (h *host) Watch(ctx context.Context, changed func()) error {
	h.changed.Store(&changed)
	<-ctx.Done()
	return ctx.Err()
}

// change takes the client to the next network.
func (h *host) change() {
	h.at.Store((h.at.Load() + 1) % networks)
	if changed := h.changed.Load(); changed != nil {
		(*changed)()
	}
}

// rebind has the NAT before the client forget all of its sockets.
func (h *host) rebind() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.sockets {
		if err := m.rebind(); err != nil {
			return err
		}
	}
	return nil
}
