// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// moshTypist starts mosh-server, as mosh does by ssh, and mosh-client.
func (s *stage) moshTypist(ctx context.Context) (*typing, error) {
	const port = "60001"
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
				r, err = s.iperf(ctx, address, port, 12, direction(reverse)...)
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

// tryRest measures throughput without moves, over IPv6, which alone has no NAT:
// a NAT of the lab's is a program, and carries no TCP.
func tryRest(ctx context.Context, s *stage) error {
	if err := s.onlySix(ctx); err != nil {
		return err
	}
	tunnel, err := s.wireGuard(ctx, lab.EdgeV6)
	if err != nil {
		return err
	}
	for _, reverse := range []bool{false, true} {
		for _, by := range []struct {
			name, address string
			port          int
		}{
			{byRoam, "127.0.0.1", local(portIperf)},
			{byPlain, lab.EdgeV6.String(), portIperf},
			{byWireGuard, wgEdge.Addr().String(), portIperf},
		} {
			r, err := s.iperf(ctx, by.address, by.port, 4, direction(reverse)...)
			if err != nil {
				return fmt.Errorf("iperf3 over %s: %w", by.name, err)
			}
			s.add(result{Program: "iperf3: TCP " + towards(reverse), By: by.name, Walk: walk{networks: "IPv6"}, Pause: r.received(reverse).pause(), Rate: r.End.SumReceived.BitsPerSecond / 8, Outcome: "ended in order"})
		}
	}
	return tunnel()
}

// onlySix brings the client to IPv6.
func (s *stage) onlySix(ctx context.Context) error {
	if err := s.net.Six.Join(metric6); err != nil {
		return err
	}
	if err := s.net.A.Leave(); err != nil {
		return err
	}
	// A connection of a moment shows that the session is there, too.
	return until(ctx, "xdp-roam is on IPv6", patience, func() bool {
		_, err := s.run(ctx, s.net.Client, "curl", "-sSf", "-m", "5", "-o", "/dev/null", localURL("page"))
		return err == nil
	})
}

// deadline is how long plain TCP is waited for after a move.
const deadline = 8 * time.Second

// tryPlain has the same programs make one move over plain TCP, and shows that
// nothing comes any more; xdp-roam makes the move beside them.
func tryPlain(ctx context.Context, s *stage) error {
	if err := s.onlySix(ctx); err != nil {
		return err
	}
	typists := make([]*typing, 2)
	for i, host := range []string{sshPlain, sshRoam} {
		var err error
		if typists[i], err = s.sshTypist(ctx, host); err != nil {
			return err
		}
	}
	downloads := []*meter{{}, {}}
	var curls []*process
	for i, url := range []string{fmt.Sprintf("http://[%v]:%d/file", lab.EdgeV6, portWeb), localURL("file")} {
		p, err := s.start(s.net.Client, downloads[i], "curl", "-sSfN", "--limit-rate", "2M", url)
		if err != nil {
			return err
		}
		curls = append(curls, p)
	}
	done := make(chan struct{})
	stop := time.AfterFunc(stay+deadline, func() { close(done) })
	defer stop.Stop()
	var before [4]int64
	meters := []*meter{&typists[0].meter, downloads[0], &typists[1].meter, downloads[1]}
	err := group(ctx,
		func(ctx context.Context) error { return typists[0].typeUntil(ctx, done) },
		func(ctx context.Context) error { return typists[1].typeUntil(ctx, done) },
		func(ctx context.Context) error {
			if err := sleep(ctx, stay); err != nil {
				return err
			}
			if _, err := sixToA(ctx, s.net); err != nil {
				return err
			}
			for i, m := range meters {
				before[i] = m.total()
			}
			return nil
		})
	if err != nil {
		return err
	}
	for _, p := range append(curls, typists[0].process, typists[1].process) {
		p.kill()
	}
	w := walk{networks: "IPv6 to A", steps: 1, away: gap}
	for i, m := range meters {
		program, by := []string{"OpenSSH: typing", "nginx and curl: a download"}[i%2], []string{byPlain, byRoam}[i/2]
		after := m.total() - before[i]
		switch {
		case by == byPlain && after > 0:
			return fmt.Errorf("%s over plain TCP went on after a move: %d bytes came", program, after)
		case by == byPlain:
			s.add(result{Program: program, By: by, Walk: w, Outcome: fmt.Sprintf("dead: nothing in the %v after the move", deadline)})
		case after == 0:
			return fmt.Errorf("%s by xdp-roam did not go on after the move", program)
		default:
			pause, _ := m.end()
			s.add(result{Program: program, By: by, Walk: w, Pause: pause, Outcome: "went on"})
		}
	}
	return nil
}
