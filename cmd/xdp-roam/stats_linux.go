// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

func newStatsCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "What became of every packet, by stage, verdict and reason",
		Long: `stats prints the counters that are not zero. A packet is counted once at each
stage that it meets: xdp and socket are the two programs of the data plane, server
is the daemon. Without a daemon the data plane's counters come from the pinned maps.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			counters, err := control.NewClient(e.controlPath()).Counters(c.Context())
			if errors.Is(err, control.ErrNotRunning) {
				set, noMaps := e.openMaps()
				if noMaps != nil {
					return withoutDaemon(err, noMaps)
				}
				defer set.Close()
				fmt.Fprintf(e.stderr, "%v: showing the data plane's counters alone\n", err)
				counters, err = dataPlaneCounters(set.Counters), nil
			}
			if err != nil {
				return err
			}
			return showCounters(e, counters)
		},
	}
}
