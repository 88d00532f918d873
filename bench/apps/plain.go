// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// tryRest measures throughput without moves, over IPv6 as plain TCP wants it.
func tryRest(ctx context.Context, s *stage) error {
	if err := s.onlySix(ctx); err != nil {
		return err
	}
	tunnel, err := s.wireGuard(ctx, lab.EdgeV6)
	if err != nil {
		return err
	}
	for _, reverse := range []bool{false, true} {
		for _, over := range []route{overRoam, overTCP, overWireGuard} {
			r, err := s.iperf(ctx, over, 4, direction(reverse)...)
			if err != nil {
				return fmt.Errorf("iperf3 over %s: %w", over.by, err)
			}
			program := "iperf3: TCP to the edge"
			if reverse {
				program = "iperf3: TCP from the edge"
			}
			s.add(r.result(program, over, reverse, walk{networks: "IPv6"}))
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
		_, err := s.run(ctx, s.net.Client, "curl", "-sSf", "-m", "5", "-o", "/dev/null", overRoam.url("page"))
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

// living is what goes on over a route while the client makes one move.
type living struct {
	typist                   *typing
	download, copied, echoed meter
}

func (l *living) meters() []*meter {
	return []*meter{&l.typist.meter, &l.download, &l.copied, &l.echoed}
}

var livingPrograms = []string{"OpenSSH: typing", "nginx and curl: a download", "OpenSSH: scp", "a WebSocket"}

// live uses all of it until done is closed. A program that ends under way shows in
// its meter.
func (l *living) live(ctx context.Context, s *stage, over route, done <-chan struct{}) error {
	curl, err := s.start(s.net.Client, &l.download, "curl", "-sSfN", over.url("slow/file"))
	if err != nil {
		return err
	}
	defer curl.kill()
	target := s.scratch.Path("copy-" + over.host)
	defer l.copied.watchFile(target)()
	scp, err := s.start(s.net.Client, nil, "scp", "-F", s.scratch.Path("ssh_config"), "-l", "8000", over.host+":"+s.scratch.Path("www/file"), target)
	if err != nil {
		return err
	}
	defer scp.stop() // and so it ends its ssh
	defer l.typist.kill()
	return group(ctx,
		func(ctx context.Context) error { return l.typist.typeUntil(ctx, done) },
		func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			socket := webSocket{meter: &l.echoed}
			used := make(chan struct{})
			go func() {
				defer close(used)
				_ = socket.use(ctx, s, over, nil)
			}()
			<-done
			cancel()
			<-used
			return nil
		})
}

// tryPlain has the same programs make one move over plain TCP, and shows that
// nothing comes any more; xdp-roam makes the move beside them.
func tryPlain(ctx context.Context, s *stage) error {
	if err := s.onlySix(ctx); err != nil {
		return err
	}
	routes := []route{overTCP, overRoam}
	lives := make([]living, len(routes))
	for i, over := range routes {
		var err error
		if lives[i].typist, err = s.sshTypist(ctx, over); err != nil {
			return err
		}
	}
	done := make(chan struct{})
	before := make([][]int64, len(routes))
	err := group(ctx,
		func(ctx context.Context) error { return lives[0].live(ctx, s, routes[0], done) },
		func(ctx context.Context) error { return lives[1].live(ctx, s, routes[1], done) },
		func(ctx context.Context) error {
			defer close(done)
			err := until(ctx, "every program has something", patience, func() bool {
				return !slices.ContainsFunc(append(lives[0].meters(), lives[1].meters()...), func(m *meter) bool { return m.total() == 0 })
			})
			if err := errors.Join(err, sleep(ctx, stay)); err != nil {
				return err
			}
			if _, err := sixToA(ctx, s.net); err != nil {
				return err
			}
			if err := rested(ctx, lives[0].meters()...); err != nil {
				return err
			}
			for i := range lives {
				for _, m := range lives[i].meters() {
					before[i] = append(before[i], m.total())
				}
			}
			return sleep(ctx, deadline)
		})
	if err != nil {
		return err
	}
	w := walk{networks: "IPv6 to A", steps: 1, away: gap}
	for i, over := range routes {
		for j, m := range lives[i].meters() {
			program, after := livingPrograms[j], m.total()-before[i][j]
			switch {
			case over == overTCP && after > 0:
				return fmt.Errorf("%s over plain TCP went on after a move: %d bytes came", program, after)
			case over == overTCP:
				s.add(result{Program: program, By: over.by, Walk: w, Outcome: fmt.Sprintf("dead: nothing came any more, for %v", deadline)})
			case after == 0:
				return fmt.Errorf("%s by xdp-roam did not go on after the move", program)
			default:
				pause, _ := m.end()
				s.add(result{Program: program, By: over.by, Walk: w, Pause: pause, Outcome: "went on"})
			}
		}
	}
	return nil
}
