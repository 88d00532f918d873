// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
)

// group runs parts beside each other; the first failure ends them all.
func group(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	var first error
	var once sync.Once
	for _, part := range parts {
		wait.Go(func() {
			if err := part(ctx); err != nil {
				once.Do(func() {
					first = err
					cancel(err)
				})
			}
		})
	}
	wait.Wait()
	return first
}

// tryEveryday uses what is open all day long, all at once.
func tryEveryday(ctx context.Context, s *stage) error {
	return s.everyday(ctx, everywhere, overRoam)
}

// day is what is open all day long.
type day struct {
	typist *typing
	pages  keepAlive
	names  lookups
	socket webSocket
	slow   slowReader
}

// everyday uses all of it over each of the routes, all at once.
func (s *stage) everyday(ctx context.Context, round []step, routes ...route) error {
	days := make([]day, len(routes))
	for i, over := range routes {
		days[i].socket.meter = &meter{}
		var err error
		if days[i].typist, err = s.sshTypist(ctx, over); err != nil {
			return err
		}
	}
	w, err := s.walk(ctx, round, func(ctx context.Context, wentRound <-chan struct{}) error {
		var parts []func(context.Context) error
		for i, over := range routes {
			d := &days[i]
			parts = append(parts, func(ctx context.Context) error { return d.typist.typeUntil(ctx, wentRound) })
			for _, use := range []func(context.Context, *stage, route, <-chan struct{}) error{d.pages.use, d.names.use, d.socket.use, d.slow.use} {
				parts = append(parts, func(ctx context.Context) error { return use(ctx, s, over, wentRound) })
			}
		}
		return group(ctx, parts...)
	})
	if err != nil {
		return err
	}
	for i, over := range routes {
		if err := days[i].report(ctx, s, over, w); err != nil {
			return fmt.Errorf("over %s: %w", over.by, err)
		}
	}
	return s.connectAlive()
}

// report ends what is still open, and adds what was seen.
func (d *day) report(ctx context.Context, s *stage, over route, w walk) error {
	shown, _ := d.typist.end()
	if err := d.typist.finish(ctx); err != nil {
		return err
	}
	if err := d.typist.complete(); err != nil {
		return err
	}
	echoed, _ := d.socket.end()
	read, rate := d.slow.end()
	s.add(
		result{Program: "OpenSSH: typing in a shell", By: over.by, Walk: w, Pause: shown, Outcome: fmt.Sprintf("%d lines typed, each answered, in order", d.typist.typed)},
		result{Program: "nginx and curl: a page ten times a second", By: over.by, Walk: w, Pause: d.pages.slowest, Outcome: fmt.Sprintf("%d requests over one connection", d.pages.requests)},
		result{Program: "nginx and curl: a slow reader (500 kB/s)", By: over.by, Walk: w, Pause: read, Rate: rate, Outcome: "every byte right"},
		result{Program: "dnsmasq and dig: queries", By: over.by, Walk: w, Pause: d.names.slowest, Outcome: fmt.Sprintf("%d queries, each from another port, %d asked twice, all answered", d.names.queries, d.names.repeated)},
		result{Program: "a WebSocket: 20 messages a second", By: over.by, Walk: w, Pause: echoed, Outcome: fmt.Sprintf("%d messages echoed in order on one connection", d.socket.messages)},
	)
	return nil
}
