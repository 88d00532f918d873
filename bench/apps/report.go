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

`+"`make test-apps`"+` (root, Debian) makes a network of namespaces, starts `+"`xdp-roam run`"+` with XDP in the driver of its link and `+"`xdp-roam connect`"+`, and uses
them with programs that know nothing of it, while the client goes from network to network. `+"`make apps-docs`"+` writes this page with what it has measured.

The walk, a step each %.1f s: from A (NAT) to B (NAT), both for %.1f s; the NAT of B forgets everybody; B is cut off, IPv6 is there; IPv6 is cut off, and A comes after
%.2f s; the router of A loses everything for %.0f s, of which nobody is told. The longest time without any network, which no program can do anything about, was %.2f s.

| program | over | moves, rebindings and cuts | longest pause | throughput | |
|---|---|---|---|---|---|
`, stay.Seconds(), overlap.Seconds(), gap.Seconds(), cut.Seconds(), away.Seconds())
	for _, r := range s.results {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Program, r.By, strings.Join(r.cells(), " | "))
	}
	fmt.Fprintf(&b, `
A pause is the longest time in which a program saw nothing come: a line on the terminal, a byte in a file, an answer; of iperf3, whole intervals of %v.
Plain TCP and the rows without moves are over IPv6, since the lab's NATs are programs that carry UDP alone; so only rows with the same networks compare.

Measured on %v; load average at the start: %s.
`, interval, report.ThisMachine(), s.load)
	return b.String()
}
