// SPDX-License-Identifier: Apache-2.0

//go:build linux

package roam

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// network is a client's network: one address at a time, behind delayed links.
type network struct {
	client.HostNetwork
	delay time.Duration

	mu      sync.Mutex
	local   netip.Addr
	links   []*link // the last one is the session's, or will be
	next    *link   // prepared
	changed func()
}

// places are where the client is in turn.
var places = [...]netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}

// Source implements client.Network.
func (n *network) Source(netip.AddrPort) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.local, nil
}

// Ways implements client.Network.
func (n *network) Ways(remote netip.AddrPort) []client.Way {
	addr, _ := n.Source(remote)
	return []client.Way{{Addr: addr}}
}

// Listen implements client.Network.
func (n *network) Listen(way client.Way) (netio.Conn, error) {
	n.mu.Lock()
	l := n.next
	n.next = nil
	n.mu.Unlock()
	if l == nil {
		l = newLink(n.delay)
	}
	if err := l.open(way.Addr); err != nil {
		l.Close()
		return nil, err
	}
	n.mu.Lock()
	n.links = append(n.links, l)
	n.mu.Unlock()
	return l, nil
}

// prepare makes the link of the next move.
func (n *network) prepare() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = newLink(n.delay)
	}
}

// close ends a link that no move has taken.
func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next != nil {
		n.next.Close()
	}
}

// Watch implements client.Network: notify is what it waits for.
func (n *network) Watch(ctx context.Context, changed func()) error {
	n.mu.Lock()
	n.changed = changed
	n.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

// leave takes the client from one place to the other. The place that it leaves is
// gone at once: what it sends there is lost, and what is on its way to it.
func (n *network) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		l.cut.Store(true)
	}
	n.links = n.links[:0]
	if n.local == places[0] {
		n.local = places[1]
	} else {
		n.local = places[0]
	}
}

// watched reports whether there is somebody to notify.
func (n *network) watched() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed != nil
}

// notify tells the client of a change, as the system would.
func (n *network) notify() {
	n.mu.Lock()
	changed := n.changed
	n.mu.Unlock()
	changed()
}

// rebind gives the client's link another source port.
func (n *network) rebind() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[len(n.links)-1].rebind()
}
