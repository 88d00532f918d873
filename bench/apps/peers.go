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
	typists := make([]*typing, 3)
	names := []string{byRoam, byMosh, byWireGuard}
	for i, start := range []func() (*typing, error){
		func() (*typing, error) { return s.sshTypist(ctx, sshRoam) },
		func() (*typing, error) { return s.moshTypist(ctx) },
		func() (*typing, error) { return s.sshTypist(ctx, sshWireGuard) },
	} {
		if typists[i], err = start(); err != nil {
			return err
		}
	}
	w, err := s.walk(ctx, overIPv4, func(ctx context.Context, wentRound <-chan struct{}) error {
		var parts []func(context.Context) error
		for _, t := range typists {
			parts = append(parts, func(ctx context.Context) error { return t.typeUntil(ctx, wentRound) })
		}
		return group(ctx, parts...)
	})
	if err != nil {
		return err
	}
	for i, t := range typists {
		pause, _ := t.end()
		if err := t.finish(ctx); err != nil {
			return err
		}
		s.add(result{Program: []string{"OpenSSH: typing", "mosh: typing", "OpenSSH: typing"}[i], By: names[i], Walk: w, Pause: pause, Outcome: fmt.Sprintf("%d lines typed", t.typed)})
	}
	for _, reverse := range []bool{false, true} {
		for _, by := range []string{byRoam, byWireGuard} {
			address, port := "127.0.0.1", local(portIperf)
			if by == byWireGuard {
				address, port = wgEdge.Addr().String(), portIperf
			}
			var r *iperfReport
			w, err := s.walk(ctx, overIPv4, func(ctx context.Context, _ <-chan struct{}) (err error) {
				r, err = s.iperf(ctx, address, port, seconds(overIPv4), direction(reverse)...)
				return err
			})
			if err != nil {
				return fmt.Errorf("iperf3 over %s: %w", by, err)
			}
			s.add(result{Program: "iperf3: TCP " + towards(reverse), By: by, Walk: w, Pause: r.received(reverse).pause(), Rate: r.End.SumReceived.BitsPerSecond / 8, Outcome: "ended in order"})
		}
	}
	return tunnel()
}

func direction(reverse bool) []string {
	if reverse {
		return []string{"-R"}
	}
	return nil
}

func towards(reverse bool) string {
	if reverse {
		return "from the edge"
	}
	return "to the edge"
}
