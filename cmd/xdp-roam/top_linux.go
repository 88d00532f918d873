// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

func newTopCommand(e *env) *cobra.Command {
	var batch bool
	var times, rows int
	var interval time.Duration
	var order string
	c := &cobra.Command{
		Use:   "top",
		Short: "Live screen of sessions, rates, drops by reason, moves and workers",
		Long: `top shows a running edge on a live screen; its last line lists the keys. If stdout is
not a terminal, and with -b, it prints one page after another instead; -o jsonl prints
a line of rates for each.`,
		Example: `  xdp-roam top --sort bytes
  xdp-roam top -b -n 2 --interval 5s`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			q := control.SessionQuery{Sort: order, Limit: rows}
			switch {
			case interval < minInterval:
				return usage("--interval %v: write at least %v", interval, minInterval)
			case times < 0 || rows < 0:
				return usage("--times and --rows are numbers, 0 or more")
			case e.format == formatJSON:
				return usage("top has no end, and a JSON document has: take -o jsonl")
			}
			if err := q.Check(); err != nil {
				return err
			}
			sampler := &topSampler{client: control.NewClient(e.controlPath())}
			if batch || times > 0 || e.format.isJSON() || !isTerminal(e.stdout) || !isTerminal(e.stdin) {
				return e.topBatch(c.Context(), sampler, q, interval, times)
			}
			// No screen for what can be said in a line.
			if _, err := sampler.client.Status(c.Context()); err != nil {
				return err
			}
			return e.topScreen(c.Context(), &topModel{env: e, ctx: c.Context(), sample: sampler.sample, query: q, interval: interval}, e.stdin, e.stdout)
		},
	}
	flags := c.Flags()
	flags.BoolVarP(&batch, "batch", "b", false, "print one page after another, even on a terminal")
	flags.IntVarP(&times, "times", "n", 0, "stop after `N` pages (default never); implies -b")
	flags.IntVar(&rows, "rows", 10, "sessions per page with -b")
	flags.DurationVar(&interval, "interval", 2*time.Second, "refresh interval")
	flags.StringVar(&order, "sort", "last-move", "sort sessions by `KEY`: "+strings.Join(control.SessionSorts, ", "))
	return c
}

// topScreen runs the live screen until it is left.
func (e *env) topScreen(ctx context.Context, m *topModel, in io.Reader, out io.Writer) error {
	options := []tea.ProgramOption{tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()}
	_, err := tea.NewProgram(m, options...).Run()
	if ctx.Err() != nil && errors.Is(err, tea.ErrProgramKilled) {
		return nil // a signal ended it, in order
	}
	return err
}

// topBatch prints pages; times is how many, 0 for ever.
func (e *env) topBatch(ctx context.Context, sampler *topSampler, q control.SessionQuery, interval time.Duration, times int) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	before, err := sampler.sample(ctx, q)
	if err != nil {
		return err
	}
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return nil
	}
	shown := 0
	paper := *e
	paper.color = "never"
	return e.refresh(ctx, interval, func(ctx context.Context, screen *env, _ int) error {
		now, err := sampler.sample(ctx, q)
		if err != nil {
			return err
		}
		r := compareSamples(before, now)
		before = now
		if shown++; shown == times {
			stop()
		}
		if e.format.isJSON() {
			r.Time = e.now().UTC()
			for i := range r.Drops {
				r.Drops[i].Time = r.Time
			}
			return writeJSON(screen.stdout, e.format, "Top", []topRates{r})
		}
		_, err = io.WriteString(screen.stdout, topPage(&paper, now, r, q.Sort)+"\n")
		return err
	})
}
