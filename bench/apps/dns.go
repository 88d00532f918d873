// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// startDNS starts dnsmasq at the edge.
func (s *stage) startDNS(ctx context.Context) error {
	return s.server(ctx, portDNS, "", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
		"--pid-file=", fmt.Sprintf("--port=%d", portDNS), "--address=/"+serverName+"/"+lab.EdgeV4.String())
}

// lookups are DNS queries, one after another, each from a port of its own.
type lookups struct {
	queries  int
	repeated int // after a second without an answer
	slowest  time.Duration
}

// use asks until wentRound is closed. A query that is lost is asked again after a
// second, as resolvers do.
func (l *lookups) use(ctx context.Context, s *stage, over route, wentRound <-chan struct{}) error {
	for ; !closed(wentRound); l.queries++ {
		began := time.Now()
		answer, err := s.run(ctx, s.net.Client, "dig", "+short", "+time=1", "+tries=30", "@"+over.addr.String(), "-p", fmt.Sprint(over.port(portDNS)), serverName, "A")
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSpace(answer), "\n")
		if lines[len(lines)-1] != lab.EdgeV4.String() {
			return fmt.Errorf("query %d: dig says %q", l.queries, answer)
		}
		l.repeated += len(lines) - 1
		l.slowest = max(l.slowest, time.Since(began))
		if err := sleep(ctx, keystrokes); err != nil {
			return err
		}
	}
	return nil
}
