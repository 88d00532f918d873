// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// moshTypist starts mosh-server, as mosh does by ssh, and mosh-client.
func (s *stage) moshTypist(ctx context.Context) (*typing, error) {
	const port = "6001" // as with WireGuard's, no ephemeral one
	out, err := s.run(ctx, s.net.Edge, "mosh-server", "new", "-i", lab.EdgeV4.String(), "-p", port, "--", "sh", "-c", remote)
	if err != nil {
		return nil, err
	}
	_, rest, ok := bytes.Cut([]byte(out), []byte("MOSH CONNECT "+port+" "))
	key, _, _ := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return nil, fmt.Errorf("mosh-server says %q", out)
	}
	return s.typist(ctx, []string{"MOSH_KEY=" + string(bytes.TrimSpace(key)), "MOSH_PREDICTION_DISPLAY=never"}, "mosh-client", lab.EdgeV4.String(), port)
}

// tryPeers puts xdp-roam beside mosh and WireGuard on the walk that all of them can
// make: neither of the two goes from IPv4 to IPv6.
func tryPeers(ctx context.Context, s *stage) error {
	tunnel, err := s.wireGuard(ctx, lab.EdgeV4)
	if err != nil {
		return err
	}
	if err := s.tryMosh(ctx); err != nil {
		return err
	}
	both := []route{overRoam, overWireGuard}
	if err := s.everyday(ctx, overIPv4, both...); err != nil {
		return err
	}
	for _, try := range []func(context.Context, route, []step) error{s.copy, s.download, s.measure} {
		for _, over := range both {
			if err := try(ctx, over, overIPv4); err != nil {
				return fmt.Errorf("over %s: %w", over.by, err)
			}
		}
	}
	return tunnel()
}

// tryMosh types into mosh.
func (s *stage) tryMosh(ctx context.Context) error {
	typist, err := s.moshTypist(ctx)
	if err != nil {
		return err
	}
	w, err := s.walk(ctx, overIPv4, func(ctx context.Context, wentRound <-chan struct{}) error {
		return typist.typeUntil(ctx, wentRound)
	})
	if err != nil {
		return err
	}
	pause, _ := typist.end()
	if err := typist.finish(ctx); err != nil {
		return err
	}
	s.add(result{Program: "mosh: typing in a shell", By: byMosh, Walk: w, Pause: pause, Outcome: fmt.Sprintf("%d lines typed", typist.typed)})
	return nil
}
