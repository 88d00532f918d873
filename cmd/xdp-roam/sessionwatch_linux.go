// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

func newSessionWatchCommand(e *env) *cobra.Command {
	var filter sessionFilter
	var order string
	var interval time.Duration
	c := &cobra.Command{
		Use:   "watch [ID...]",
		Short: "Follow sessions: a live table, or a line per change",
		Long: `watch shows a live table of sessions on a terminal. Elsewhere, and with -o jsonl, it
prints a line per change from now on: opened, moved, closed, alarms.`,
		Example: `  xdp-roam session watch --sort last-move
  xdp-roam session watch --peer alice -o jsonl`,
		Args: arguments(cobra.ArbitraryArgs),
		RunE: func(c *cobra.Command, ids []string) error {
			q, err := filter.query(e, ids)
			switch {
			case err != nil:
				return err
			case e.format == formatJSON:
				return usage("watch has no end, and a JSON document has: take -o jsonl")
			case interval < minInterval:
				return usage("--interval %v: write at least %v", interval, minInterval)
			}
			if e.format == formatJSONL || !isTerminal(e.stdout) {
				if !q.MovedSince.IsZero() {
					return usage("--moved-since chooses rows of a table: changes are told from now on")
				}
				return e.printEvents(c.Context(), control.EventQuery{
					Kinds:    []string{control.ClassSession, control.ClassMove, "forwarding_alarm", "session_policed"},
					Sessions: q.IDs, Services: q.Services, Peers: q.Peers, Workers: q.Workers, Last: -1, Follow: true,
				})
			}
			q.Sort = order
			if err := q.Check(); err != nil {
				return err
			}
			return e.refresh(c.Context(), interval, func(ctx context.Context, screen *env, rows int) error {
				q := q
				q.Limit = max(rows-2, 1)
				return screen.showSessionPage(ctx, q)
			})
		},
	}
	filter.add(c)
	c.Flags().StringVar(&order, "sort", "last-heard", "sort the table by `KEY`: "+strings.Join(control.SessionSorts, ", "))
	c.Flags().DurationVar(&interval, "interval", 2*time.Second, "refresh interval of the table")
	return c
}

// showSessionPage prints the first sessions of a list, below how many there are.
func (e *env) showSessionPage(ctx context.Context, q control.SessionQuery) error {
	client := control.NewClient(e.controlPath())
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s  %d sessions, by %s\n", e.now().Format(time.TimeOnly), status.Sessions, q.Sort)
	p := newPrinter(e, control.KindSession, e.sessionColumns())
	if err := client.EachSession(ctx, q, p.print); err != nil {
		return err
	}
	return p.close()
}
