// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net"
)

// echo sends every datagram back.
type echo struct{}

func (echo) String() string { return "echo:" }

func (echo) serve(ctx context.Context, s *Service, c Conn) error {
	t := throttled{c, s.gate.rates(c.PeerKey())}
	p := make([]byte, c.MaxReceive())
	for {
		n, err := c.ReceiveDatagram(ctx, p)
		if err != nil {
			return finish(ctx, c, err)
		}
		if !t.mayPass(n) {
			continue
		}
		// Any other error is this datagram's alone, for instance that the
		// client takes only smaller ones: lost, as datagrams may be.
		if err := t.SendDatagram(p[:n]); errors.Is(err, net.ErrClosed) {
			return nil
		}
	}
}

// discard reads and forgets.
type discard struct{}

func (discard) String() string { return "discard:" }

func (discard) serve(ctx context.Context, _ *Service, c Conn) error {
	p := make([]byte, c.MaxReceive())
	for {
		if _, err := c.ReceiveDatagram(ctx, p); err != nil {
			return finish(ctx, c, err)
		}
	}
}
