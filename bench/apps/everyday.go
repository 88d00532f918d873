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
	typist, err := s.sshTypist(ctx, sshRoam)
	if err != nil {
		return err
	}
	var pages keepAlive
	var names lookups
	var socket webSocket
	var slow slowReader
	w, err := s.walk(ctx, everywhere, func(ctx context.Context, wentRound <-chan struct{}) error {
		return group(ctx,
			func(ctx context.Context) error { return typist.typeUntil(ctx, wentRound) },
			func(ctx context.Context) error { return pages.use(ctx, s, wentRound) },
			func(ctx context.Context) error { return names.use(ctx, s, wentRound) },
			func(ctx context.Context) error { return socket.use(ctx, s, wentRound) },
			func(ctx context.Context) error { return slow.use(ctx, s, wentRound) })
	})
	if err != nil {
		return err
	}
	shown, _ := typist.end()
	if err := typist.finish(ctx); err != nil {
		return err
	}
	if err := typist.complete(); err != nil {
		return err
	}
	echoed, _ := socket.end()
	read, rate := slow.end()
	s.add(
		result{Program: "OpenSSH: typing in a shell", By: byRoam, Walk: w, Pause: shown, Outcome: fmt.Sprintf("%d lines typed, each answered, in order", typist.typed)},
		result{Program: "nginx and curl: a page ten times a second", By: byRoam, Walk: w, Pause: pages.slowest, Outcome: fmt.Sprintf("%d requests over one connection", pages.requests)},
		result{Program: "nginx and curl: a slow reader (500 kB/s)", By: byRoam, Walk: w, Pause: read, Rate: rate, Outcome: "every byte right"},
		result{Program: "dnsmasq and dig: queries", By: byRoam, Walk: w, Pause: names.slowest, Outcome: fmt.Sprintf("%d queries, each from another port, %d asked twice, all answered", names.queries, names.repeated)},
		result{Program: "a WebSocket: 20 messages a second", By: byRoam, Walk: w, Pause: echoed, Outcome: fmt.Sprintf("%d messages echoed in order on one connection", socket.messages)},
	)
	return s.connectAlive()
}
