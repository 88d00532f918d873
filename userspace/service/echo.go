// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net"

	"github.com/xdp-roam/xdp-roam/userspace/inbox"
)

// echo sends every datagram back.
type echo struct{}

func (echo) String() string { return "echo:" }

func (echo) serve(ctx context.Context, s *Service, c Conn) error {
	t := throttled{c, s.gate.rates(c.PeerKey())}
	var loan inbox.Loan
	for {
		datagrams, err := c.ReceiveDatagrams(ctx, &loan)
		if err != nil {
			return finish(ctx, c, err)
		}
		if err := t.answer(datagrams); errors.Is(err, net.ErrClosed) {
			return nil
		}
	}
}

// answer sends datagrams back and forgets which there were. An error is
// net.ErrClosed; any other is one datagram's alone, for instance that the client takes
// only smaller ones: lost, as datagrams may be.
func (t throttled) answer(datagrams [][]byte) error {
	rest := datagrams[:0]
	for _, p := range datagrams {
		if t.mayPass(len(p)) {
			rest = append(rest, p)
		}
	}
	for len(rest) > 0 {
		n, err := t.SendDatagrams(rest)
		if err == nil || errors.Is(err, net.ErrClosed) {
			return err
		}
		rest = rest[n+1:]
	}
	return nil
}

// discard reads and forgets.
type discard struct{}

func (discard) String() string { return "discard:" }

func (discard) serve(ctx context.Context, _ *Service, c Conn) error {
	var loan inbox.Loan
	for {
		if _, err := c.ReceiveDatagrams(ctx, &loan); err != nil {
			return finish(ctx, c, err)
		}
	}
}
