// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// simNet is a network in memory for a synctest bubble, in whose time its packets
// take their way.
type simNet struct {
	delay time.Duration // one way

	mu    sync.Mutex // guards what follows
	conns map[netip.AddrPort]*simConn
	port  uint16
	drop  func(from, to netip.AddrPort, pkt []byte) bool
	trace []simPacket // of client and server in turn, as they were sent
}

type simPacket struct {
	at       time.Time
	from, to netip.AddrPort
	kind     byte
	size     int
	dropped  bool
}

func newSimNet() *simNet {
	return &simNet{delay: 10 * time.Millisecond, conns: map[netip.AddrPort]*simConn{}, port: 40000}
}

// setDrop says what is lost from now on.
func (n *simNet) setDrop(f func(from, to netip.AddrPort, pkt []byte) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop = f
}

// heal lets everything through.
func (n *simNet) heal() { n.setDrop(nil) }

// cut loses what an address sends, what it is sent, or both.
func (n *simNet) cut(addr string, out, in bool) {
	a := netip.MustParseAddr(addr)
	n.setDrop(func(from, to netip.AddrPort, _ []byte) bool {
		return out && from.Addr() == a || in && to.Addr() == a
	})
}

// since returns what was sent from a time on.
func (n *simNet) since(at time.Time) []simPacket {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.trace), func(p simPacket) bool { return p.at.Before(at) })
}

// open counts the sockets of an address.
func (n *simNet) open(match func(netip.Addr) bool) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for a := range n.conns {
		if match(a.Addr()) {
			count++
		}
	}
	return count
}

// listen opens a socket at addresses of which the first is its name.
func (n *simNet) listen(addrs ...netip.AddrPort) (*simConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if addrs[0].Port() == 0 {
		n.port++
		addrs = []netip.AddrPort{netip.AddrPortFrom(addrs[0].Addr(), n.port)}
	}
	c := &simConn{net: n, addrs: addrs, in: make(chan netio.Message, 1024), closed: make(chan struct{}), expired: make(chan struct{})}
	for _, a := range addrs {
		if n.conns[a] != nil {
			return nil, syscall.EADDRINUSE
		}
		n.conns[a] = c
	}
	return c, nil
}

func (n *simNet) send(from, to netip.AddrPort, pkt []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	dropped := n.drop != nil && n.drop(from, to, pkt)
	n.trace = append(n.trace, simPacket{time.Now(), from, to, pkt[0], len(pkt), dropped})
	if dropped {
		return
	}
	pkt = slices.Clone(pkt)
	time.AfterFunc(n.delay, func() {
		n.mu.Lock()
		c := n.conns[to]
		n.mu.Unlock()
		if c == nil {
			return
		}
		select {
		case c.in <- netio.Message{Buf: pkt, N: len(pkt), Remote: from, Local: to}:
		default: // the buffer is full
		}
	})
}

// simConn is a socket.
type simConn struct {
	net    *simNet
	addrs  []netip.AddrPort
	in     chan netio.Message
	once   sync.Once
	closed chan struct{}

	mu      sync.Mutex
	expired chan struct{} // closed while the read deadline is over
}

func (c *simConn) ReadBatch(ms []netio.Message) (int, error) {
	c.mu.Lock()
	expired := c.expired
	c.mu.Unlock()
	select { // closed and late come before packets
	case <-c.closed:
		return 0, net.ErrClosed
	case <-expired:
		return 0, os.ErrDeadlineExceeded
	default:
	}
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	case <-expired:
		return 0, os.ErrDeadlineExceeded
	case m := <-c.in:
		ms[0].N, ms[0].Remote, ms[0].Local = copy(ms[0].Buf, m.Buf), m.Remote, m.Local
		return 1, nil
	}
}

func (c *simConn) WriteBatch(ms []netio.Message) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	for _, m := range ms {
		from := c.addrs[0]
		if m.Local.IsValid() && slices.Contains(c.addrs, m.Local) {
			from = m.Local
		}
		c.net.send(from, m.Remote, m.Buf)
	}
	return len(ms), nil
}

func (c *simConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.IsZero() {
		close(c.expired)
	} else {
		c.expired = make(chan struct{})
	}
	return nil
}

func (c *simConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		for _, a := range c.addrs {
			delete(c.net.conns, a)
		}
	})
	return nil
}

func (c *simConn) LocalAddr() netip.AddrPort             { return c.addrs[0] }
func (c *simConn) Dropped() uint64                       { return 0 }
func (c *simConn) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

// simHost is a client's host on a simNet.
type simHost struct {
	net *simNet

	mu      sync.Mutex
	ways    []Way // of each family the first is the system's choice
	names   map[string][]netip.AddrPort
	slept   time.Duration
	changed func()
	asked   int // how often a name was resolved
}

func (h *simHost) Source(remote netip.AddrPort) (netip.Addr, error) {
	ways := h.Ways(remote)
	if len(ways) == 0 {
		return netip.Addr{}, errNoRoute
	}
	return ways[0].Addr, nil
}

func (h *simHost) Ways(remote netip.AddrPort) (ways []Way) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.ways {
		if w.Addr.Is4() == remote.Addr().Is4() {
			ways = append(ways, w)
		}
	}
	return ways
}

func (h *simHost) Listen(way Way) (netio.Conn, error) {
	c, err := h.net.listen(netip.AddrPortFrom(way.Addr, 0))
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (h *simHost) Resolve(ctx context.Context, server string) ([]netip.AddrPort, error) {
	h.mu.Lock()
	h.asked++
	addrs, ok := h.names[server]
	h.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(30 * time.Millisecond):
	}
	if !ok {
		return nil, errors.New("no such host (test)")
	}
	return addrs, nil
}

func (h *simHost) Slept() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.slept
}

func (h *simHost) Watch(ctx context.Context, changed func()) error {
	h.mu.Lock()
	h.changed = changed
	h.mu.Unlock()
	changed() // what changed before it was here to be told
	<-ctx.Done()
	return ctx.Err()
}

// set changes the ways out and tells.
func (h *simHost) set(addrs ...string) {
	h.mu.Lock()
	h.ways = nil
	for _, a := range addrs {
		h.ways = append(h.ways, Way{Addr: netip.MustParseAddr(a)})
	}
	h.mu.Unlock()
	h.tell()
}

func (h *simHost) tell() {
	h.mu.Lock()
	changed := h.changed
	h.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (h *simHost) name(server string, addrs ...netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names = map[string][]netip.AddrPort{server: addrs}
}

// sleep lets the machine sleep: the clock of the program stands still.
func (h *simHost) sleep(d time.Duration) {
	h.mu.Lock()
	h.slept += d
	h.mu.Unlock()
	h.tell()
}

// kinds counts packets by their first byte.
func kinds(ps []simPacket, kind byte, match func(simPacket) bool) (n int) {
	for _, p := range ps {
		if p.kind == kind && match(p) {
			n++
		}
	}
	return n
}
