// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// TestWatchRoutes changes a gateway's hardware address, and routes.
func TestWatchRoutes(t *testing.T) {
	testutil.RequirePrivileged(t)
	host, err := lab.NewNamespace("host")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	other, err := lab.NewNamespace("other")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	// Else its own routes come and go a second or two after the link does.
	for _, s := range []string{"ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"} {
		if err := host.Sysctl(s, "1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := lab.Connect(lab.Port{NS: host, Link: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}},
		lab.Port{NS: other, Link: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}}); err != nil {
		t.Fatal(err)
	}
	index, err := host.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	// The namespace has one thread, which is to watch: what changes is changed from outside.
	var handle *netlink.Handle
	if err := host.Do(func() (err error) {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	set := func(last byte, state int) {
		t.Helper()
		err := handle.NeighSet(&netlink.Neigh{
			LinkIndex: index, Family: unix.AF_INET, State: state, IP: net.IPv4(192, 0, 2, 9).To4(),
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, last},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(1, netlink.NUD_REACHABLE) // known before

	var changes atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go host.Do(func() error {
		ended <- WatchRoutes(ctx, func() { changes.Add(1) })
		return nil
	})
	route := &netlink.Route{LinkIndex: index, Dst: &net.IPNet{IP: net.IPv4(198, 51, 100, 0).To4(), Mask: net.CIDRMask(24, 32)}, Gw: net.IPv4(192, 0, 2, 9).To4()}
	for _, step := range []struct {
		what string
		do   func()
		want bool
	}{
		{"a route comes", func() {
			if err := handle.RouteAdd(route); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"heard of nothing for a while", func() { set(1, netlink.NUD_STALE) }, false},
		{"another hardware address", func() { set(2, netlink.NUD_REACHABLE) }, true},
		{"again the same", func() { set(2, netlink.NUD_STALE) }, false},
		{"not there any more", func() { set(2, netlink.NUD_FAILED) }, true},
		{"there again, for who had no way to it", func() { set(3, netlink.NUD_REACHABLE) }, false},
		{"a route goes", func() {
			if err := handle.RouteDel(route); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		settled(&changes)
		before := changes.Load()
		step.do()
		if step.want {
			for end := time.Now().Add(30 * time.Second); changes.Load() == before; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s: not noticed", step.what)
				}
			}
			continue
		}
		settled(&changes)
		if n := changes.Load() - before; n != 0 {
			t.Errorf("%s: %d changes", step.what, n)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// settled waits until no more changes come for a while.
func settled(n *atomic.Int64) {
	for last, still := n.Load(), 0; still < 50; still++ {
		time.Sleep(5 * time.Millisecond)
		if now := n.Load(); now != last {
			last, still = now, 0
		}
	}
}
