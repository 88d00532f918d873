// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/spf13/cobra"
)

// demoFlags are what the demo can be told.
type demoFlags struct {
	json  bool
	rate  int
	pause time.Duration
	mode  string
}

func newDemoCommand(e *env) *cobra.Command {
	var flags demoFlags
	c := &cobra.Command{
		Example: `  xdp-roam demo
  xdp-roam demo --mode afxdp`,
		Use:   "demo",
		Short: "Run the demo: a client roams under attack; takes less than a minute",
		Long: `demo builds a small internet out of network namespaces: a client with two IPv4 access
networks, each behind its own NAT router, and an IPv6 network; an edge server with XDP
in the driver; a UDP service behind it; an attacker who sniffs the client's networks.
The client streams numbered datagrams to the service and back while it moves
A -> B -> IPv6 -> A and its NAT rebinds once; meanwhile the attacker replays, forges and
floods. The NAT is part of this program, so the kernel needs none.

Progress goes to stderr, the report to stdout. The exit status is 0 only if every
expectation in the report held. Nothing is left behind, however it ends. It needs root,
on Linux.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if flags.rate < 1 || flags.rate > 5000 {
				return usage("--rate %d: write a number from 1 to 5000", flags.rate)
			}
			if flags.pause < 100*time.Millisecond || flags.pause > time.Minute {
				return usage("--pause %v: write a duration from 100ms to 1m", flags.pause)
			}
			if flags.mode != "xdp" && flags.mode != "afxdp" {
				return usage("--mode %q: the demo plays in mode xdp or afxdp", flags.mode)
			}
			if flags.json && !e.format.isJSON() {
				e.format = formatJSON
			}
			return runDemo(c.Context(), e, flags)
		},
	}
	f := c.Flags()
	f.BoolVar(&flags.json, "json", false, "print the report as JSON (like -o json)")
	f.IntVar(&flags.rate, "rate", 500, "datagrams per second")
	f.DurationVar(&flags.pause, "pause", 2*time.Second, "time between moves, and duration of each flood")
	f.StringVar(&flags.mode, "mode", "xdp", "the edge's `MODE`: xdp or afxdp")
	c.AddCommand(&cobra.Command{
		Use: "part NAME", Short: "One process of the demo, which starts it by itself", Hidden: true,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return runDemoPart(c.Context(), e, args[0]) },
	})
	return c
}
