// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// patience is what a busy machine may take for what an idle one does at once.
const patience = 30 * time.Second

// fakeConn is a session made of channels.
type fakeConn struct {
	in, out chan string
	lends   inbox.Inbox
	done    chan struct{}
	once    sync.Once
	code    wire.CloseCode
	reason  string
	most    atomic.Int32 // the largest datagram that the client takes; 0: 1000
	lost    atomic.Int32 // datagrams larger than that
	key     handshake.PublicKey
}

func newFakeConn() *fakeConn {
	c := &fakeConn{in: make(chan string, 8), out: make(chan string, 8), done: make(chan struct{})}
	c.lends.Limit(1 << 20)
	return c
}

func (c *fakeConn) ReceiveDatagram(ctx context.Context, p []byte) (int, error) {
	select {
	case s := <-c.in:
		return copy(p, s), nil
	case <-c.done:
		return 0, net.ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (c *fakeConn) SendDatagram(p []byte) error {
	if len(p) > c.MaxDatagram() {
		c.lost.Add(1)
		return errors.New("too large")
	}
	select {
	case <-c.done:
		return net.ErrClosed
	case c.out <- string(p):
		return nil
	}
}

func (c *fakeConn) ReceiveDatagrams(ctx context.Context, l *inbox.Loan) ([][]byte, error) {
	noWait, cancel := context.WithCancel(ctx)
	cancel()
	if ds, err := c.lends.Lend(noWait, l); err == nil {
		return ds, nil
	}
	select {
	case s := <-c.in:
		c.lends.Push([]byte(s))
	case <-c.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		select {
		case s := <-c.in:
			c.lends.Push([]byte(s))
		default:
			return c.lends.Lend(noWait, l)
		}
	}
}

func (c *fakeConn) SendDatagrams(ds [][]byte) (int, error) {
	for i, d := range ds {
		if err := c.SendDatagram(d); err != nil {
			return i, err
		}
	}
	return len(ds), nil
}

func (c *fakeConn) Close(code wire.CloseCode, reason string) error {
	c.once.Do(func() {
		c.code, c.reason = code, reason
		close(c.done)
	})
	return nil
}

func (c *fakeConn) MaxReceive() int  { return 1000 }
func (c *fakeConn) MaxDatagram() int { return cmp.Or(int(c.most.Load()), 1000) }

func (c *fakeConn) next(t *testing.T) string {
	t.Helper()
	select {
	case s := <-c.out:
		return s
	case <-time.After(patience):
		t.Fatal("nothing came")
		return ""
	}
}

func (c *fakeConn) Err() error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
		return nil
	}
}

func (c *fakeConn) ID() wire.ID                  { return wire.ID{1} }
func (c *fakeConn) PeerKey() handshake.PublicKey { return c.key }
func (c *fakeConn) RemoteAddr() netip.AddrPort   { return netip.MustParseAddrPort("192.0.2.7:700") }
func (c *fakeConn) LocalAddr() netip.AddrPort    { return netip.MustParseAddrPort("192.0.2.1:7626") }

// serve runs a service and returns what Serve returned.
func serve(ctx context.Context, t *testing.T, spec string, c Conn) <-chan error {
	t.Helper()
	return serveLimited(ctx, newService(t, spec, Limits{}), c)
}

func serveLimited(ctx context.Context, s *Service, c Conn) <-chan error {
	errs := make(chan error, 1)
	go func() { errs <- s.Serve(ctx, c) }()
	return errs
}

func newService(t *testing.T, spec string, limits Limits) *Service {
	t.Helper()
	s, err := New(spec, limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != spec {
		t.Errorf("%q became %q", spec, s)
	}
	return s
}

func wait(t *testing.T, errs <-chan error) error {
	t.Helper()
	select {
	case err := <-errs:
		return err
	case <-time.After(patience):
		t.Fatal("Serve does not return")
		return nil
	}
}
