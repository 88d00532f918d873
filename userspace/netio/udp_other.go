// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package netio

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// udpConn moves one datagram a call. It does not learn which of our addresses
// a datagram was sent to: Local is the bound address.
type udpConn struct {
	udp   *net.UDPConn
	local netip.AddrPort

	readMu  sync.Mutex
	writeMu sync.Mutex
}

func newConn(udp *net.UDPConn, _ bool) (Conn, error) {
	return &udpConn{udp: udp, local: localAddr(udp)}, nil
}

func (c *udpConn) LocalAddr() netip.AddrPort             { return c.local }
func (c *udpConn) SetReadDeadline(t time.Time) error     { return c.udp.SetReadDeadline(t) }
func (c *udpConn) SyscallConn() (syscall.RawConn, error) { return c.udp.SyscallConn() }
func (c *udpConn) Dropped() uint64                       { return 0 } // the system does not say
func (c *udpConn) Close() error                          { return c.udp.Close() }

func (c *udpConn) ReadBatch(ms []Message) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	m := &ms[0]
	for {
		n, from, err := c.udp.ReadFromUDPAddrPort(m.Buf)
		if err == nil {
			m.N, m.Segment, m.Local = n, 0, c.local
			m.Remote = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			return 1, nil
		}
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		if tooLong(err) {
			m.N, m.Segment, m.Local, m.Remote = 0, 0, c.local, netip.AddrPort{}
			return 1, nil
		}
		if !fromICMP(err) {
			return 0, err
		}
	}
}

func (c *udpConn) WriteBatch(ms []Message) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	taken := 0
	var refusal error
	for i := range ms {
		_, err := c.udp.WriteToUDPAddrPort(ms[i].Buf, ms[i].Remote)
		switch {
		case err == nil:
			taken++
		case errors.Is(err, net.ErrClosed):
			return taken, err
		case refusal == nil:
			refusal = err
		}
	}
	return taken, refusal
}

// checkPortable refuses what only Linux has.
func checkPortable(cfg Config) error {
	if cfg.Device != "" {
		return fmt.Errorf("binding to device %q: %w", cfg.Device, ErrUnsupported)
	}
	return nil
}
