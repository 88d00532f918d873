// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// rebinder stands between a client and the edge as a NAT does: the edge sees its
// address, and that changes when the test says so. Packets wait in it for a while.
type rebinder struct {
	t     *testing.T
	b     *labBench
	delay time.Duration // each way
	near  *net.UDPConn  // to the client

	mu     sync.Mutex
	far    *net.UDPConn // to the edge
	client netip.AddrPort
}

func (b *labBench) newRebinder(delay time.Duration) *rebinder {
	b.t.Helper()
	r := &rebinder{t: b.t, b: b, delay: delay}
	var err error
	if r.near, err = b.client.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		b.t.Fatal(err)
	}
	r.rebind()
	go r.out()
	b.t.Cleanup(func() {
		r.near.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.far.Close()
	})
	return r
}

// address is where the client finds the edge.
func (r *rebinder) address() string { return r.near.LocalAddr().String() }

// rebind gives the client another address. The old one is gone, as with a NAT.
func (r *rebinder) rebind() {
	r.t.Helper()
	var far *net.UDPConn
	if err := r.b.client.Do(func() (err error) {
		far, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(edgeAddr, wire.DefaultPort)))
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.far != nil {
		r.far.Close()
	}
	r.far = far
	go r.in(far)
}

// out carries packets to the edge until the rebinder is closed.
func (r *rebinder) out() {
	buffer := make([]byte, wire.MaxPacket)
	for {
		n, from, err := r.near.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		packet := append([]byte(nil), buffer[:n]...)
		r.mu.Lock()
		r.client = from
		r.mu.Unlock()
		r.after(func() {
			r.mu.Lock()
			far := r.far
			r.mu.Unlock()
			_, _ = far.Write(packet) // a network may lose packets
		})
	}
}

// in carries packets to the client until far is closed.
func (r *rebinder) in(far *net.UDPConn) {
	buffer := make([]byte, wire.MaxPacket)
	for {
		n, err := far.Read(buffer)
		if err != nil {
			return
		}
		packet := append([]byte(nil), buffer[:n]...)
		r.mu.Lock()
		client := r.client
		r.mu.Unlock()
		r.after(func() { _, _ = r.near.WriteToUDPAddrPort(packet, client) })
	}
}

func (r *rebinder) after(f func()) {
	if r.delay == 0 {
		f()
		return
	}
	time.AfterFunc(r.delay, f)
}

// through starts a client behind the rebinder and returns a program that speaks to
// service 7 by it.
func (b *labBench) through(r *rebinder, port uint16) *net.UDPConn {
	b.t.Helper()
	p := b.start(b.client, "connect", r.address(), "--server-key", b.serverKey.Public().String(), "--identity", b.path("client.key"), "--udp", "-L", strconv.Itoa(int(port))+":7")
	p.waitFor("forwards to service")
	return b.program(port)
}
