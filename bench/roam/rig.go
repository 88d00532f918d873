// SPDX-License-Identifier: Apache-2.0

//go:build linux

package roam

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// rig is a server, a client with one session, and a stream each way.
type rig struct {
	delay    time.Duration // one way
	network  *network
	server   *server.Server
	client   *client.Session
	up, down stream
	group    sync.WaitGroup
	end      context.CancelFunc
	broken   chan error // why a stream has ended
}

func newRig(ctx context.Context, roundTrip time.Duration) (*rig, error) {
	r := &rig{delay: roundTrip / 2, broken: make(chan error, 4)}
	r.network = &network{delay: r.delay, local: places[0]}
	var err error
	r.server, err = server.Listen(server.Config{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: handshake.NewPrivateKey(), Workers: 1,
	})
	if err != nil {
		return nil, err
	}
	ctx, r.end = context.WithCancel(ctx)
	dialing, done := context.WithTimeout(ctx, timeout)
	defer done()
	r.client, err = client.Dial(dialing, client.Config{
		Servers: []netip.AddrPort{r.server.Addr()}, ServerKey: r.server.PublicKey(), Network: r.network, NoReopen: true,
	})
	if err != nil {
		r.end()
		return nil, errors.Join(err, r.server.Close())
	}
	peer, err := r.server.Accept(dialing)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	for _, part := range []func() error{
		func() error { return r.up.receive(ctx, peer.ReceiveDatagram) },
		func() error { return r.down.receive(ctx, r.client.ReceiveDatagram) },
		func() error { return r.up.send(ctx, upSize, r.client.SendDatagram) },
		func() error { return r.down.send(ctx, downSize, peer.SendDatagram) },
	} {
		r.group.Go(func() {
			if err := part(); err != nil {
				r.broken <- err
			}
		})
	}
	for limit := now() + timeout; ; time.Sleep(time.Millisecond) {
		if _, _, flows := r.down.full(0); flows && r.network.watched() {
			return r, nil
		}
		if now() > limit {
			return nil, errors.Join(errors.New("the streams do not flow before any move"), r.close())
		}
	}
}

func (r *rig) close() error {
	r.end()
	r.group.Wait()
	r.network.close()
	return errors.Join(r.client.Close(wire.CloseDone, ""), r.server.Close())
}

// kind is what happens to the client.
type kind int

const (
	none     kind = iota // nothing: what any datagram meets, and the measurement costs
	known                // the application knows of the move and calls Move
	noticed              // the system tells of another address
	rebound              // a NAT gives it another source port, and nobody knows
	numKinds int  = iota
)

func (k kind) String() string {
	return [...]string{"no move", "known move (Move)", "move noticed by the system", "NAT rebinding"}[k]
}

// timeout is when a move has failed. It then counts as having taken so long.
const timeout = 10 * time.Second

// sample is one move.
type sample struct {
	// first is from the move until a datagram sent since then was at the server's
	// application, less the delay of the way there.
	first time.Duration
	// full is from the move until the server sent the first datagram from which on
	// all arrived, less the same delay and one round trip.
	full time.Duration
	// seen is when that datagram reached the client, after the move.
	seen time.Duration
	// held is how many datagrams went elsewhere after the first that did not.
	held int
	err  error
}

// move has one kind of move happen and measures it.
func (r *rig) move(ctx context.Context, k kind) (sample, error) {
	// So that moves come at no particular time of the streams or timers.
	time.Sleep(2*r.delay + rand.N(20*time.Millisecond))
	r.up.forget()
	r.down.forget()
	r.network.prepare()
	runtime.GC() // of the link's copies; see Measure
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	moved := make(chan error, 1)
	began := now()
	switch k {
	case none:
		moved <- nil
	case known:
		r.network.leave()
		go func() { moved <- r.client.Move(ctx) }()
	case noticed:
		r.network.leave()
		r.network.notify()
		moved <- nil
	default:
		moved <- r.network.rebind()
	}
	s := sample{first: timeout, full: timeout, seen: timeout}
	var reached, flows bool
	for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
		select {
		case err := <-r.broken:
			return s, fmt.Errorf("%v: a stream has ended: %w", k, err)
		default:
		}
		// Nothing that was sent to the old place since then arrives, so what
		// arrives went by the new one.
		var first, full arrival
		var held int
		first, reached = r.up.first(began)
		full, held, flows = r.down.full(began + r.delay)
		if reached {
			s.first = first.at - began - r.delay
		}
		if reached && k == none {
			return s, nil
		}
		if reached && flows {
			s.full, s.seen, s.held = full.sent-began-3*r.delay, full.at-began, held
			break
		}
	}
	if s.err = ctx.Err(); s.err == nil {
		s.err = <-moved
	}
	if s.err != nil {
		s.err = fmt.Errorf("%v at a round trip of %v: %w; at the server something: %v, from it all: %v; the client's session: %+v", k, 2*r.delay, s.err, reached, flows, r.client.Info())
		s.first, s.full, s.seen = timeout, timeout, timeout
	}
	return s, nil
}
