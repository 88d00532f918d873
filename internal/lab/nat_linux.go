// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// NAT is a router that shares one public IPv4 address among the hosts behind it,
// for UDP, in this process: frames are read from one link by a packet socket,
// rewritten, and sent on the other. It needs no support of the kernel.
//
// In the words of RFC 4787: endpoint-independent mapping, no port preservation
// (public ports are random), address- and port-dependent filtering (only who was
// written to may answer, at that mapping), no hairpinning. ICMP, fragments and
// every other protocol are dropped.
type NAT struct {
	config       NATConfig
	inner, outer *os.File
	running      sync.WaitGroup
	cut          atomic.Bool

	mu       sync.Mutex
	byInner  map[netip.AddrPort]*mapping
	byPort   map[uint16]*mapping
	stats    NATStats
	nextTidy time.Time
}

// NATConfig says where a NAT stands. Its namespace must not forward IPv4, and
// Public must be routed to it by its neighbour but be no address of it: so the
// kernel of the namespace answers ARP and drops the rest without a word.
type NATConfig struct {
	NS           *Namespace
	Inner, Outer string           // links of NS
	InnerMAC     net.HardwareAddr // of NS on Inner
	OuterMAC     net.HardwareAddr // of NS on Outer
	HostMAC      net.HardwareAddr // of the host on Inner
	GatewayMAC   net.HardwareAddr // of the next router on Outer
	Network      netip.Prefix     // behind Inner; other sources are dropped (BCP 38)
	Public       netip.Addr
	Idle         time.Duration // a mapping unused for so long is forgotten; 0: 2 minutes, the least that RFC 4787 allows
}

// NATStats counts packets since the start.
type NATStats struct {
	Out, In     uint64 // rewritten and sent on
	Unsolicited uint64 // from outside, to no mapping or from an endpoint that it never wrote to
	Dropped     uint64 // malformed, not UDP, a foreign source, out of hops, every port taken, or cut
	Unsent      uint64 // of Out and In: the other link was down
}

// Rebinding is a mapping whose public side changed.
type Rebinding struct {
	Inner    netip.AddrPort
	Old, New netip.AddrPort // public
}

// mapping is what one inner endpoint looks like from outside.
type mapping struct {
	inner   netip.AddrPort
	port    uint16 // public
	used    time.Time
	remotes map[netip.AddrPort]struct{} // who may answer
}

// StartNAT starts forwarding; Close ends it.
func StartNAT(c NATConfig) (*NAT, error) {
	if c.Idle == 0 {
		c.Idle = 2 * time.Minute
	}
	inner, err := c.NS.OpenPacket(c.Inner, EtherIPv4)
	if err != nil {
		return nil, fmt.Errorf("NAT: %w", err)
	}
	outer, err := c.NS.OpenPacket(c.Outer, EtherIPv4)
	if err != nil {
		inner.Close()
		return nil, fmt.Errorf("NAT: %w", err)
	}
	n := &NAT{
		config: c, inner: inner, outer: outer,
		byInner: map[netip.AddrPort]*mapping{}, byPort: map[uint16]*mapping{},
	}
	n.running.Go(func() { n.forward(inner, outer, n.outbound) })
	n.running.Go(func() { n.forward(outer, inner, n.inbound) })
	return n, nil
}

// Close stops forwarding.
func (n *NAT) Close() error {
	n.inner.Close()
	n.outer.Close()
	n.running.Wait()
	return nil
}

// Cut has the router lose every packet from now on, or carry them again: the
// hosts' links stay up, so nothing tells them.
func (n *NAT) Cut(cut bool) { n.cut.Store(cut) }

// Stats is a copy of the counters.
func (n *NAT) Stats() NATStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Rebind does what a NAT's reboot does to its hosts: each live mapping gets
// another public port and lets nobody in until its host writes again; the old
// ports are dead at once.
func (n *NAT) Rebind() []Rebinding {
	n.mu.Lock()
	defer n.mu.Unlock()
	var changes []Rebinding
	left := n.byPort
	n.byPort = make(map[uint16]*mapping, len(left))
	for old, m := range left {
		for left[m.port] != nil || n.byPort[m.port] != nil {
			m.port = randomPort()
		}
		n.byPort[m.port] = m
		clear(m.remotes)
		changes = append(changes, Rebinding{m.inner, n.public(old), n.public(m.port)})
	}
	return changes
}

func (n *NAT) public(port uint16) netip.AddrPort { return netip.AddrPortFrom(n.config.Public, port) }

func randomPort() uint16 { return uint16(1024 + rand.IntN(1<<16-1024)) }

// count adds one to a counter of stats.
func (n *NAT) count(counter *uint64) {
	n.mu.Lock()
	*counter++
	n.mu.Unlock()
}

// forward carries frames one way until a socket is closed.
func (n *NAT) forward(from, to *os.File, translate func(udp4, time.Time) bool) {
	buffer := make([]byte, 1<<16)
	for {
		size, err := from.Read(buffer)
		if errors.Is(err, unix.ENETDOWN) {
			continue // told once each time the link goes down
		}
		if err != nil {
			return
		}
		p, ok := parseUDP4(buffer[:size])
		if !ok || n.cut.Load() {
			n.count(&n.stats.Dropped)
			continue
		}
		if !translate(p, time.Now()) {
			continue
		}
		if _, err := to.Write(p.frame); err != nil {
			n.count(&n.stats.Unsent)
		}
	}
}

// outbound gives a packet of an inner host its public source; false when it
// stays here.
func (n *NAT) outbound(p udp4, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	source := p.source()
	if !n.config.Network.Contains(source.Addr()) || n.config.Network.Contains(p.destination().Addr()) || !p.hop() {
		n.stats.Dropped++
		return false
	}
	n.tidy(now)
	m := n.byInner[source]
	if m == nil {
		if m = n.newMapping(source); m == nil {
			n.stats.Dropped++
			return false
		}
	}
	m.used = now
	m.remotes[p.destination()] = struct{}{}
	p.setSource(n.public(m.port))
	copy(p.frame[0:6], n.config.GatewayMAC)
	copy(p.frame[6:12], n.config.OuterMAC)
	n.stats.Out++
	return true
}

// inbound brings an answer back to the inner host that asked for it; false when
// nobody did.
func (n *NAT) inbound(p udp4, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	to := p.destination()
	m := n.byPort[to.Port()]
	if to.Addr() != n.config.Public || m == nil || now.Sub(m.used) > n.config.Idle {
		n.stats.Unsolicited++
		return false
	}
	if _, asked := m.remotes[p.source()]; !asked {
		n.stats.Unsolicited++
		return false
	}
	if !p.hop() {
		n.stats.Dropped++
		return false
	}
	p.setDestination(m.inner)
	copy(p.frame[0:6], n.config.HostMAC)
	copy(p.frame[6:12], n.config.InnerMAC)
	n.stats.In++
	return true
}

// newMapping returns nil when every public port is taken.
func (n *NAT) newMapping(inner netip.AddrPort) *mapping {
	if len(n.byPort) > 32768 {
		return nil
	}
	port := randomPort()
	for n.byPort[port] != nil {
		port = randomPort()
	}
	m := &mapping{inner: inner, port: port, remotes: map[netip.AddrPort]struct{}{}}
	n.byInner[inner], n.byPort[port] = m, m
	return m
}

// tidy forgets idle mappings, at most once a second.
func (n *NAT) tidy(now time.Time) {
	if now.Before(n.nextTidy) {
		return
	}
	n.nextTidy = now.Add(time.Second)
	for inner, m := range n.byInner {
		if now.Sub(m.used) > n.config.Idle {
			delete(n.byInner, inner)
			delete(n.byPort, m.port)
		}
	}
}
