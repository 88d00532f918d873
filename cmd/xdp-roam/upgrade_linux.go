// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// upgradedItem is one interface whose program `upgrade` has exchanged.
type upgradedItem struct {
	Interface string `json:"interface"`
	Before    uint32 `json:"program_id_before"`
	After     uint32 `json:"program_id_after"`
	State     string `json:"state"` // exchanged, degraded
	Reason    string `json:"reason,omitempty"`
}

func newUpgradeCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "upgrade",
		Example: `  xdp-roam upgrade`,
		Short:   "Replace the attached programs by this version's without losing a packet",
		Long: `upgrade replaces the XDP program on every interface of an instance by the one of
this version, newer or older. The maps stay, and with them sessions, counters and
limits; each replacement is atomic, and a running daemon keeps serving. The daemon is
asked to use the new program on its sockets as well; one that cannot keeps its own until
it is restarted, which is reported on stderr. upgrade refuses maps with a
different layout (exit code 6): drain, unload and load instead.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			report, err := loader.Upgrade(e.loaderOptions())
			if err != nil {
				return err
			}
			e.warn(report.Warnings)
			if report.Owner != 0 {
				client := control.NewClient(e.controlPath())
				if err := loader.OfferSocketProgram(e.loaderOptions(), func() error { return client.TakeSocketProgram(c.Context()) }); err != nil {
					e.warn([]string{fmt.Sprintf("the daemon (pid %d) keeps its own program at its sockets until it is started anew: %v", report.Owner, err)})
				}
			}
			return showUpgraded(e, report.Interfaces)
		},
	}
}

func showUpgraded(e *env, list []loader.Upgraded) error {
	items := make([]upgradedItem, len(list))
	for i, u := range list {
		items[i] = upgradedItem{Interface: u.Interface, Before: u.Before, After: u.After, State: "exchanged"}
		if u.Degraded != "" {
			items[i].State, items[i].Reason = "degraded", u.Degraded
		}
	}
	return show(e, "Upgrade", items, []column[upgradedItem]{
		{name: "interface", value: func(u upgradedItem) string { return u.Interface }},
		{name: "before", value: func(u upgradedItem) string { return fmt.Sprint(u.Before) }},
		{name: "after", value: func(u upgradedItem) string { return fmt.Sprint(u.After) }},
		{name: "state", value: func(u upgradedItem) string {
			if u.Reason != "" {
				return e.red(e.stdout, u.State)
			}
			return u.State
		}},
		{name: "reason", value: func(u upgradedItem) string { return u.Reason }},
	})
}
