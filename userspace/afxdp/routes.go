// SPDX-License-Identifier: Apache-2.0

//go:build linux

package afxdp

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// WatchRoutes calls changed whenever the kernel may reach a peer in another way than
// before: a route came or went, or a neighbour has another hardware address, or
// none any more. It runs until ctx is done, in the network namespace of the calling
// thread. After an error changes go unnoticed.
func WatchRoutes(ctx context.Context, changed func()) error {
	for ctx.Err() == nil {
		if err := watchRoutes(ctx, changed); err != nil {
			return err
		}
		changed() // notifications were lost, and with them who knows what
	}
	return nil
}

func watchRoutes(ctx context.Context, changed func()) error {
	done := make(chan struct{})
	routes, neighbours := make(chan netlink.RouteUpdate, 64), make(chan netlink.NeighUpdate, 64)
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		return fmt.Errorf("watching routes: %w", err)
	}
	if err := netlink.NeighSubscribeWithOptions(neighbours, done, netlink.NeighSubscribeOptions{ListExisting: true}); err != nil {
		close(done)
		go drain(routes)
		return fmt.Errorf("watching neighbours: %w", err)
	}
	defer func() {
		close(done)
		go drain(routes)
		go drain(neighbours)
	}()
	known := make(neighbourhood)
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-routes:
			if !open {
				return nil
			}
			changed()
		case u, open := <-neighbours:
			if !open {
				return nil
			}
			if known.update(u) {
				changed()
			}
		}
	}
}

func drain[T any](updates <-chan T) {
	for range updates {
	}
}

// neighbourhood is the hardware addresses that neighbours have.
type neighbourhood map[neighbour]string

type neighbour struct {
	link int
	addr string
}

// update reports whether a neighbour that had an address has lost or changed it. The
// kernel tells of much more, such as that one was not heard of for a while.
func (n neighbourhood) update(u netlink.NeighUpdate) bool {
	key := neighbour{u.LinkIndex, string(u.IP)}
	before, known := n[key]
	now := string(u.HardwareAddr)
	if u.Type == unix.RTM_DELNEIGH || u.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0 {
		now = ""
	}
	if now == "" {
		delete(n, key)
	} else {
		n[key] = now
	}
	return known && before != now
}
