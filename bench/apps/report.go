// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/bench/report"
)

// What carries a program's bytes.
const (
	byRoam      = "xdp-roam"
	byPlain     = "plain TCP"
	byMosh      = "mosh"
	byWireGuard = "wireguard-go"
)

// result is a line of the report.
type result struct {
	Program, By string
	Walk        walk
	Pause       time.Duration // the longest; 0: not told
	Rate        float64       // bytes a second; 0: not of interest
	Outcome     string
}

// worstPause is what a program may notice at most beyond the time without any
// network. It is generous, as it fails the run on a machine that is busy otherwise.
const worstPause = 10 * time.Second

// add notes results and says them.
func (s *stage) add(results ...result) {
	for _, r := range results {
		s.say("  %s, %s: %s", r.Program, r.By, strings.Join(r.cells(), ", "))
		s.results = append(s.results, r)
	}
}

func (r result) cells() []string {
	pause, rate, moves := "", "", "none"
	if r.Pause > 0 {
		pause = fmt.Sprintf("%.2f s", r.Pause.Seconds())
	}
	if r.Rate > 0 {
		rate = fmt.Sprintf("%.1f MB/s", r.Rate/1e6)
	}
	if r.Walk.steps > 0 {
		moves = fmt.Sprintf("%d in %s", r.Walk.steps, r.Walk.networks)
	}
	return []string{moves, pause, rate, r.Outcome}
}

// late are the results whose pause was too long.
func (s *stage) late() (all []string) {
	for _, r := range s.results {
		if r.By == byRoam && r.Pause > r.Walk.away+worstPause {
			all = append(all, fmt.Sprintf("%s: %v, of which %v were without any network", r.Program, r.Pause, r.Walk.away))
		}
	}
	return all
}

// report is the document.
func (s *stage) report() string {
	var b strings.Builder
	var away time.Duration
	for _, r := range s.results {
		away = max(away, r.Walk.away)
	}
	fmt.Fprintf(&b, `# Real programs on the move

`+"`make test-apps`"+` (root, Debian) creates a network of namespaces, starts `+"`xdp-roam run`"+` with native XDP and `+"`xdp-roam connect`"+`, and runs unmodified programs
through them while the client moves from network to network. `+"`make apps-docs`"+` generates this page from such a run.

The client's walk, one step every %.1f s: from A (behind NAT) to B (behind NAT), with both up for %.1f s; the NAT of B drops its mappings; B goes down, IPv6 comes up; IPv6 goes
down, and A comes up after %.2f s; the router of A silently drops everything for %.0f s. The longest time without any working network, for which no program can compensate, was %.2f s.

| program | over | moves, rebindings and cuts | longest pause | throughput | |
|---|---|---|---|---|---|
`, stay.Seconds(), overlap.Seconds(), gap.Seconds(), cut.Seconds(), away.Seconds())
	for _, r := range s.results {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Program, r.By, strings.Join(r.cells(), " | "))
	}
	fmt.Fprintf(&b, `
A pause is the longest time during which a program received nothing: no line on the terminal, no byte of a file, no answer; for iperf3 in whole intervals of %v.
Plain TCP and the rows without moves use IPv6, because the lab's NATs are programs that carry only UDP; so compare only rows with the same networks.

Measured on %v; load average at the start: %s.
`, interval, report.ThisMachine(), s.load)
	return b.String()
}
