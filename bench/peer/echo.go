// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peer

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/xdp-roam/xdp-roam/internal/bench/network"
)

// Echo is a plain Go UDP server that answers each datagram by itself.
type Echo struct {
	conn, client *net.UDPConn
	echoed       atomic.Uint64
}

// Ports of the echo server and of the client that its answers go to, which does not
// read them.
const (
	EchoPort       = 7007
	EchoClientPort = 7008
)

// NewEcho starts it. The caller closes it.
func NewEcho(w *network.Wire) (e *Echo, err error) {
	e = &Echo{}
	if e.client, err = w.Client.ListenUDP(netip.AddrPortFrom(network.ClientAddr, EchoClientPort)); err != nil {
		return nil, err
	}
	if e.conn, err = w.Server.ListenUDP(netip.AddrPortFrom(network.ServerAddr, EchoPort)); err != nil {
		return nil, errors.Join(err, e.client.Close())
	}
	if err := e.conn.SetReadBuffer(8 << 20); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	go func() {
		for b := make([]byte, 2048); ; {
			n, from, err := e.conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if _, err := e.conn.WriteToUDPAddrPort(b[:n], from); err == nil {
				e.echoed.Add(1)
			}
		}
	}()
	return e, nil
}

// Echoed counts the answers.
func (e *Echo) Echoed() uint64 { return e.echoed.Load() }

// Close ends it.
func (e *Echo) Close() error { return errors.Join(e.conn.Close(), e.client.Close()) }
