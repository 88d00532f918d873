// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

const (
	// stay is how long the client stays somewhere.
	stay = 2 * time.Second
	// overlap is how long the old network goes on where a move is prepared.
	overlap = 500 * time.Millisecond
	// gap is how long there is no network between two that do not overlap.
	gap = 250 * time.Millisecond
	// cut is how long the router loses everything, of which nobody is told.
	cut = 2 * time.Second
)

// Metrics of the default routes: B is better than A, so that joining it is a move.
const (
	metricA = 100
	metricB = 50
	metric6 = 100
)

// walk is what has happened to the client's network.
type walk struct {
	networks string
	steps    int           // moves, rebindings and cuts
	away     time.Duration // the longest time without any network
}

// step is one thing that happens to the client. It returns how long there was no
// network at all.
type step func(context.Context, *lab.Topology) (away time.Duration, err error)

// everywhere is a round through all three networks that begins and ends in A.
var everywhere = []step{toB, rebind, bToSix, sixToA, cutA}

// overIPv4 is a round for those who cannot change from IPv4 to IPv6.
var overIPv4 = []step{toB, rebind, bToA, cutA}

// toB: B comes, which is better, and A goes a while later.
func toB(ctx context.Context, t *lab.Topology) (time.Duration, error) {
	if err := t.B.Join(metricB); err != nil {
		return 0, err
	}
	return 0, errors.Join(sleep(ctx, overlap), t.A.Leave())
}

// rebind: the NAT of B forgets everybody.
func rebind(_ context.Context, t *lab.Topology) (time.Duration, error) {
	t.B.NAT.Rebind()
	return 0, nil
}

// bToSix: IPv6 is there, and B is gone without a warning.
func bToSix(ctx context.Context, t *lab.Topology) (time.Duration, error) {
	if err := t.Six.Join(metric6); err != nil {
		return 0, err
	}
	return 0, errors.Join(sleep(ctx, overlap), t.B.Leave())
}

func sixToA(ctx context.Context, t *lab.Topology) (time.Duration, error) { return toA(ctx, t, t.Six) }
func bToA(ctx context.Context, t *lab.Topology) (time.Duration, error)   { return toA(ctx, t, t.B) }

// toA: the old network goes, and for a while there is none.
func toA(ctx context.Context, t *lab.Topology, from *lab.Access) (time.Duration, error) {
	began := time.Now()
	if err := from.Leave(); err != nil {
		return 0, err
	}
	err := errors.Join(sleep(ctx, gap), t.A.Join(metricA))
	return time.Since(began), err
}

// cutA: the router of A loses everything for a while, and tells nobody.
func cutA(ctx context.Context, t *lab.Topology) (time.Duration, error) {
	began := time.Now()
	t.A.NAT.Cut(true)
	err := sleep(ctx, cut)
	t.A.NAT.Cut(false)
	return time.Since(began), err
}

// walk has the client go round once, and stay in A until use returns: what does not
// send by itself may be unable to finish while its host goes on and on. use is told by
// a channel when the round is over, and a while has passed.
func (s *stage) walk(ctx context.Context, round []step, use func(ctx context.Context, wentRound <-chan struct{}) error) (walk, error) {
	w := walk{networks: "A, B, IPv6"}
	if len(round) == len(overIPv4) {
		w.networks = "A, B"
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wentRound, used := make(chan struct{}), make(chan error, 1)
	go func() { used <- use(ctx, wentRound) }()
	for _, step := range round {
		select {
		case err := <-used:
			// A goes on below where it is needed; here the program has failed or was told to end early.
			return w, errors.Join(err, s.home(ctx))
		case <-time.After(stay):
		case <-ctx.Done():
			return w, errors.Join(context.Cause(ctx), <-used)
		}
		away, err := step(ctx, s.net)
		if err != nil {
			err = fmt.Errorf("moving the client: %w", err)
			cancel(err)
			return w, errors.Join(err, <-used)
		}
		w.steps++
		w.away = max(w.away, away)
	}
	time.AfterFunc(stay, func() { close(wentRound) })
	select {
	case err := <-used:
		return w, err
	case <-ctx.Done():
		return w, errors.Join(context.Cause(ctx), <-used)
	}
}

// home brings the client to A, wherever it is.
func (s *stage) home(context.Context) error {
	if err := s.net.A.Join(metricA); err != nil {
		return err
	}
	return errors.Join(s.net.B.Leave(), s.net.Six.Leave())
}
