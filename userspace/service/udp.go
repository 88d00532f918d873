// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// udp is a UDP service. Each session has a connected socket of its own, so the
// service tells sessions apart by their source port.
type udp struct{ address string }

func (b udp) String() string { return "udp://" + b.address }

// udpFlow is one session's way to the service.
type udpFlow struct {
	udp
	throttled

	mu     sync.Mutex // guards what follows
	conn   *net.UDPConn
	places []netip.AddrPort // where else it may be; empty once it has answered
	last   []byte           // datagram sent while there are other places
	over   bool
}

func (b udp) serve(ctx context.Context, s *Service, c Conn) error {
	places, err := addresses(ctx, b.address)
	if err != nil {
		if ctx.Err() != nil {
			return finish(ctx, c, err)
		}
		return b.gone(c, err)
	}
	f := &udpFlow{udp: b, throttled: throttled{c, s.gate.rates(c.PeerKey())}, places: places}
	conn, err := f.next(nil)
	if err != nil {
		return b.gone(c, err)
	}
	var wg sync.WaitGroup
	var backErr error
	wg.Go(func() { backErr = f.toClient(s, conn) })
	err = f.toService(ctx)
	f.close() // ends toClient
	wg.Wait()
	return cmp.Or(err, backErr)
}

// next connects to the next of the places where the service may be; the last
// datagram, of which the one before wanted nothing, is sent there. Without
// another place it returns why.
func (f *udpFlow) next(why error) (*net.UDPConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.places) > 0 && !f.over {
		place := f.places[0]
		f.places = f.places[1:]
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(place))
		if err != nil {
			why = cmp.Or(why, err)
			continue
		}
		if f.conn != nil {
			f.conn.Close()
		}
		f.conn = conn
		if f.last != nil {
			_, _ = conn.Write(f.last) // its refusal is read
		}
		return conn, nil
	}
	return nil, why
}

func (f *udpFlow) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	f.conn.Close()
}

// send sends a datagram to the service.
func (f *udpFlow) send(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.places) > 0 {
		f.last = append(f.last[:0], p...)
	}
	_, err := f.conn.Write(p)
	if errors.Is(err, syscall.ECONNREFUSED) && len(f.places) > 0 {
		return nil // the reader hears of the next one and goes on to another place
	}
	return err
}

// answered notes that the service is where it was looked for.
func (f *udpFlow) answered() {
	f.mu.Lock()
	f.places, f.last = nil, nil
	f.mu.Unlock()
}

// maxUDP is more than a UDP datagram can hold, in bytes.
const maxUDP = 1 << 16

// toService returns when the session or ctx ends or the socket fails.
func (f *udpFlow) toService(ctx context.Context) error {
	var loan inbox.Loan
	for {
		datagrams, err := f.ReceiveDatagrams(ctx, &loan)
		if err != nil {
			return finish(ctx, f, err)
		}
		for _, p := range datagrams {
			if !f.mayPass(len(p)) {
				continue
			}
			if err := f.send(p); fatal(err) {
				return f.gone(f, err)
			}
		}
	}
}

// toClient returns when the socket fails or is closed, or the session is over.
// A failure ends the session, and so toService.
func (f *udpFlow) toClient(s *Service, conn *net.UDPConn) error {
	// What the client takes may change, with its path and at its word: each datagram
	// is for SendDatagram to judge. Memory that none of them fills stays untouched.
	p := make([]byte, maxUDP)
	first := true
	for {
		n, err := conn.Read(p)
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return nil
		case !fatal(err):
			continue
		default:
			if conn, err = f.next(err); err != nil {
				return f.gone(f, err)
			}
			continue
		}
		if first {
			first = false
			f.answered()
			s.worked()
		}
		if err := f.SendDatagram(p[:n]); errors.Is(err, net.ErrClosed) {
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
	text := why(err).text
	_ = c.Close(wire.CloseServiceGone, text+"; tell the server's operator, and try again")
	return fmt.Errorf("backend %v: %s: %w", b, text, err)
}
