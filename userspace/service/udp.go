// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// udp is a UDP service. Each session has a connected socket of its own, so the
// service tells sessions apart by their source port.
type udp struct{ address string }

func (b udp) String() string { return "udp://" + b.address }

func (b udp) Serve(ctx context.Context, c Conn) error {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", b.address)
	if err != nil {
		if ctx.Err() != nil {
			return finish(ctx, c, err)
		}
		return b.gone(c, err)
	}
	var wg sync.WaitGroup
	var backErr error
	wg.Go(func() { backErr = b.toClient(conn, c) })
	err = b.toService(ctx, conn, c)
	conn.Close() // ends toClient
	wg.Wait()
	return cmp.Or(err, backErr)
}

// maxUDP is more than a UDP datagram can hold, in bytes.
const maxUDP = 1 << 16

// toService returns when the session or ctx ends or the socket fails.
func (b udp) toService(ctx context.Context, conn net.Conn, c Conn) error {
	p := make([]byte, c.MaxReceive())
	for {
		n, err := c.ReceiveDatagram(ctx, p)
		if err != nil {
			return finish(ctx, c, err)
		}
		if _, err := conn.Write(p[:n]); fatal(err) {
			return b.gone(c, err)
		}
	}
}

// toClient returns when the socket fails or is closed, or the session is over.
// A failure ends the session, and so toService.
func (b udp) toClient(conn net.Conn, c Conn) error {
	// What the client takes may change, with its path and at its word: each datagram
	// is for SendDatagram to judge. Memory that none of them fills stays untouched.
	p := make([]byte, maxUDP)
	for {
		n, err := conn.Read(p)
		if err != nil {
			switch {
			case errors.Is(err, net.ErrClosed):
				return nil
			case !fatal(err):
				continue
			}
			return b.gone(c, err)
		}
		if err := c.SendDatagram(p[:n]); errors.Is(err, net.ErrClosed) {
			return nil
		}
	}
}

// fatal tells what ends a session from what loses a datagram.
func fatal(err error) bool {
	return err != nil && !errors.Is(err, syscall.EMSGSIZE) && !errors.Is(err, syscall.ENOBUFS)
}

// gone tells the client that there is no service and why.
func (b udp) gone(c Conn, err error) error {
	why := err.Error()
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "nothing listens at the service's address"
	case errors.As(err, &dns):
		why = "the service's name cannot be resolved"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		why = "the service's host cannot be reached"
	}
	_ = c.Close(wire.CloseServiceGone, why)
	return fmt.Errorf("backend %v: %s: %w", b, why, err)
}
