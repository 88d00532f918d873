// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package edge is a whole server with one client, for measurements of the path that
// every datagram takes. What the client would send can be recorded instead and
// played to the server later, as fast as it takes it.
package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// patience is for what happens in no time unless something is wrong.
const patience = 30 * time.Second

// Client is a client whose packets can be recorded.
type Client struct {
	*client.Session
	tap *tap
}

// dial opens a session from a namespace, or from this process's own (nil), and
// waits until a datagram of size is one packet.
func dial(ctx context.Context, from *lab.Namespace, at netip.Addr, server netip.AddrPort, key handshake.PublicKey, size int) (*Client, error) {
	t := &tap{}
	s, err := client.Dial(ctx, client.Config{
		Servers: []netip.AddrPort{server}, ServerKey: key, NoReopen: true, Keepalive: -1,
		Network: &home{namespace: from, addr: at, tap: t},
	})
	if err != nil {
		return nil, err
	}
	c := &Client{s, t}
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		before := t.sent.Load()
		if err := c.SendDatagram(make([]byte, size)); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		if t.sent.Load() == before+1 && t.last.Load() == int64(packetLen(size)) {
			return c, nil
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("the path does not carry datagrams of %d bytes in one packet", size), c.Close())
		}
	}
}

// Burst is how many packets are recorded, and played, at a time: less than a replay
// window, as the session's own packets go their way meanwhile, and less than what any
// socket here has room for: wireguard-go asks for 7 MB and may get 4, and a frame takes
// 8 KB of that.
const Burst = 768

// Record gives the packets of n datagrams of size to keep, which the server has not
// got: each can be played once, in order, before n is recorded again. n is at most
// Burst.
func (c *Client) Record(n, size int, keep func(packet []byte) error) error {
	kept := 0
	c.tap.record(func(packet []byte) (bool, error) {
		if len(packet) != packetLen(size) {
			return false, nil
		}
		kept++
		return true, keep(packet)
	})
	datagrams := make([][]byte, 64)
	for i := range datagrams {
		datagrams[i] = make([]byte, size)
	}
	var err error
	// One that shares its packet, or is cut up until the path's MTU is found again, goes
	// its way and another one is recorded.
	for end := time.Now().Add(patience); kept < n && err == nil; {
		before := kept
		if _, err = c.SendDatagrams(datagrams[:min(len(datagrams), n-kept)]); time.Now().After(end) {
			err = errors.Join(err, fmt.Errorf("only %d of %d datagrams of %d bytes got packets of their own", kept, n, size))
		}
		if kept == before { // a flood would drown the answers by which that MTU is found
			time.Sleep(2 * time.Millisecond)
		}
	}
	return errors.Join(err, c.tap.record(nil))
}

// packetLen is the length of a packet with one datagram and nothing else.
func packetLen(size int) int { return wire.Overhead + 1 + size }

// Deafen has the client read nothing until it is called with false: what the server
// sends meanwhile costs no more than the kernel's part.
func (c *Client) Deafen(deaf bool) { c.tap.deafen(deaf) }

// Close ends the session.
func (c *Client) Close() error { return c.Session.Close(wire.CloseDone, "") }

// Addr is where its packets come from now: it may take another socket when it hears
// nothing for long.
func (c *Client) Addr() netip.AddrPort { return c.LocalAddr() }

// home is a network with one address and no way out of it.
type home struct {
	client.HostNetwork
	namespace *lab.Namespace
	addr      netip.Addr
	tap       *tap
}

// Source implements client.Network.
func (h *home) Source(netip.AddrPort) (netip.Addr, error) { return h.addr, nil }

// Ways implements client.Network.
func (h *home) Ways(netip.AddrPort) []client.Way { return []client.Way{{Addr: h.addr}} }

// Watch implements client.Network: nothing ever changes.
func (h *home) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

// Listen implements client.Network.
func (h *home) Listen(way client.Way) (conn netio.Conn, err error) {
	open := func() error {
		conn, err = h.HostNetwork.Listen(way)
		return err
	}
	if h.namespace != nil {
		err = h.namespace.Do(open)
	} else {
		err = open()
	}
	if err != nil {
		return nil, err
	}
	return &socket{conn, h.tap, make(chan struct{}), sync.Once{}}, nil
}

// tap can keep what is sent by a client's sockets, and turn them deaf.
type tap struct {
	sent atomic.Uint64 // packets
	last atomic.Int64  // length of the last one

	mu      sync.Mutex
	keep    func([]byte) (bool, error) // nil: all packets are sent
	failure error
	hears   chan struct{} // closed when it hears again; nil: it does
}

// socket is one of them.
type socket struct {
	netio.Conn
	tap    *tap
	closed chan struct{}
	once   sync.Once
}

// record gives packets to keep and sends those that it does not want, or with nil
// sends all again. It returns what went wrong with those before.
func (t *tap) record(keep func([]byte) (bool, error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep = keep
	err := t.failure
	t.failure = nil
	return err
}

func (t *tap) deafen(deaf bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case deaf && t.hears == nil:
		t.hears = make(chan struct{})
	case !deaf && t.hears != nil:
		close(t.hears)
		t.hears = nil
	}
}

// WriteBatch implements netio.Conn.
func (c *socket) WriteBatch(ms []netio.Message) (int, error) {
	t := c.tap
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent.Add(uint64(len(ms)))
	t.last.Store(int64(len(ms[len(ms)-1].Buf)))
	if t.keep == nil {
		return c.Conn.WriteBatch(ms)
	}
	for i := range ms {
		kept, err := t.keep(ms[i].Buf)
		if !kept {
			_, err = c.Conn.WriteBatch(ms[i : i+1])
		}
		if err != nil && t.failure == nil {
			t.failure = err
		}
	}
	return len(ms), nil
}

// ReadBatch implements netio.Conn.
func (c *socket) ReadBatch(ms []netio.Message) (int, error) {
	c.tap.mu.Lock()
	hears := c.tap.hears
	c.tap.mu.Unlock()
	if hears != nil {
		select {
		case <-hears:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	return c.Conn.ReadBatch(ms)
}

// Close implements netio.Conn.
func (c *socket) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
