// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

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

// rested waits until nothing comes to the meters any more, as what was sent before a
// move and has still to go through the programs. If something always does, deadline
// ends it.
func rested(ctx context.Context, meters ...*meter) error {
	total := func() (sum int64) {
		for _, m := range meters {
			sum += m.total()
		}
		return sum
	}
	for end := time.Now().Add(deadline); ; {
		before := total()
		if err := sleep(ctx, time.Second); err != nil || total() == before || time.Now().After(end) {
			return err
		}
	}
}

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
	for i, url := range []string{fmt.Sprintf("http://[%v]:%d/slow/file", lab.EdgeV6, portWeb), localURL("slow/file")} {
		p, err := s.start(s.net.Client, downloads[i], "curl", "-sSfN", url)
		if err != nil {
			return err
		}
		curls = append(curls, p)
	}
	done := make(chan struct{})
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
			if err := rested(ctx, meters[:2]...); err != nil {
				return err
			}
			for i, m := range meters {
				before[i] = m.total()
			}
			err := sleep(ctx, deadline)
			close(done)
			return err
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
			s.add(result{Program: program, By: by, Walk: w, Outcome: fmt.Sprintf("dead: nothing came any more, for %v", deadline)})
		case after == 0:
			return fmt.Errorf("%s by xdp-roam did not go on after the move", program)
		default:
			pause, _ := m.end()
			s.add(result{Program: program, By: by, Walk: w, Pause: pause, Outcome: "went on"})
		}
	}
	return nil
}
