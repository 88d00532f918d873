// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

func newStatsCommand(e *env) *cobra.Command {
	var s statsReader
	var watch time.Duration
	var times int
	c := &cobra.Command{
		Use: "stats [--watch 1s]",
		Example: `  xdp-roam stats
  xdp-roam stats --watch 1s -o jsonl`,
		Short: "Show packet counters by stage, verdict and reason",
		Long: `stats prints the counters that are not zero. A packet is counted once at each stage
that it reaches: xdp and socket are the two programs of the data plane, server is the
daemon. Without a daemon the data plane's counters are read from the pinned maps. With
--watch it repeats, and shows how fast each counter grows: in place on a terminal,
otherwise table after table; -o jsonl prints a line per counter and interval.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case watch != 0 && watch < minInterval:
				return usage("--watch %v: write at least %v", watch, minInterval)
			case watch != 0 && e.format == formatJSON:
				return usage("--watch has no end, and a JSON document has: take -o jsonl")
			case times < 0 || times > 0 && watch == 0:
				return usage("--times goes with --watch, and is 1 or more")
			}
			if err := errors.Join(oneOf("--stage", s.stages, statsStages), oneOf("--verdict", s.verdicts, statsVerdicts)); err != nil {
				return err
			}
			s.env = e
			defer s.close()
			if watch == 0 {
				counters, err := s.read(c.Context())
				if err != nil {
					return err
				}
				return showCounters(e, counters)
			}
			return s.watch(c.Context(), watch, times)
		},
	}
	flags := c.Flags()
	flags.DurationVar(&watch, "watch", 0, "repeat every `D`, and show rates")
	flags.IntVar(&times, "times", 0, "stop after `N` tables (default never)")
	flags.StringSliceVar(&s.stages, "stage", nil, "only counters of `STAGE`: "+either(statsStages)+" (repeat for more)")
	flags.StringSliceVar(&s.verdicts, "verdict", nil, "only counters with `VERDICT`: "+either(statsVerdicts)+" (repeat for more)")
	return c
}

// What counters have for a stage and a verdict.
var (
	statsStages   = []string{"xdp", "socket", "server", "events"}
	statsVerdicts = []string{"pass", "drop", "tx", "redirect", "deliver", "answer", "event"}
)

// oneOf refuses a value that a flag does not have: a filter that nothing passes would
// look like counters of zero.
func oneOf(flag string, values, known []string) error {
	for _, v := range values {
		if !slices.Contains(known, v) {
			return usage("%s %q: write %s", flag, v, either(known))
		}
	}
	return nil
}

// either lists words, such as "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// statsReader reads the counters where they are: at the daemon, else in the maps.
type statsReader struct {
	env              *env
	stages, verdicts []string
	set              *maps.Set // where no daemon answered
}

func (s *statsReader) close() {
	if s.set != nil {
		s.set.Close()
	}
}

func (s *statsReader) read(ctx context.Context) (counters []control.Counter, err error) {
	if s.set == nil {
		counters, err = control.NewClient(s.env.controlPath()).Counters(ctx)
		if errors.Is(err, control.ErrNotRunning) {
			noDaemon := err
			if s.set, err = s.env.openMaps(); err != nil {
				return nil, withoutDaemon(noDaemon, err)
			}
			fmt.Fprintf(s.env.stderr, "%v: showing the data plane's counters alone\n", noDaemon)
		}
	}
	if s.set != nil {
		counters, err = dataPlaneCounters(s.set.Counters), nil
	}
	return slices.DeleteFunc(counters, func(c control.Counter) bool {
		return len(s.stages) > 0 && !slices.Contains(s.stages, c.Stage) || len(s.verdicts) > 0 && !slices.Contains(s.verdicts, c.Verdict)
	}), err
}

// rateItem is a counter and how fast it grows.
type rateItem struct {
	Time time.Time `json:"time"`
	control.Counter
	// PerSecond is over the time since the look before.
	PerSecond float64 `json:"per_second"`
}

// watch shows rates again and again; times is how often, 0 for ever.
func (s *statsReader) watch(ctx context.Context, interval time.Duration, times int) error {
	before, err := s.read(ctx)
	if err != nil {
		return err
	}
	at, shown := time.Now(), 0
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return nil
	}
	return s.env.refresh(ctx, interval, func(ctx context.Context, screen *env, _ int) error {
		counters, err := s.read(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		items := rates(counters, before, now.Sub(at))
		for i := range items {
			items[i].Time = s.env.now().UTC()
		}
		before, at = counters, now
		if shown++; shown == times {
			stop()
		}
		if err := showRates(screen, items); err != nil || screen.format.isJSON() {
			return err
		}
		_, err = fmt.Fprintln(screen.stdout) // between tables
		return err
	})
}

// rates says how fast counters have grown in a time.
func rates(now, before []control.Counter, elapsed time.Duration) []rateItem {
	was := make(map[control.Counter]uint64, len(before))
	key := func(c control.Counter) control.Counter {
		c.Value = 0
		return c
	}
	for _, c := range before {
		was[key(c)] = c.Value
	}
	items := make([]rateItem, len(now))
	for i, c := range now {
		grown := c.Value - min(was[key(c)], c.Value) // a restarted daemon counts from 0
		items[i] = rateItem{Counter: c, PerSecond: float64(grown) / elapsed.Seconds()}
	}
	return items
}

func showRates(e *env, items []rateItem) error {
	return show(e, control.KindCounter, items, []column[rateItem]{
		{name: "stage", value: func(r rateItem) string { return r.Stage }},
		{name: "verdict", value: func(r rateItem) string { return r.Verdict }},
		{name: "reason", value: func(r rateItem) string { return r.Reason }},
		{name: "count", value: func(r rateItem) string { return strconv.FormatUint(r.Value, 10) }},
		{name: "per second", value: func(r rateItem) string { return rate(r.PerSecond) }},
	})
}

// rate writes how many there are each second in four characters or so.
func rate(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "0"
	case perSecond < 10:
		return strconv.FormatFloat(perSecond, 'f', 1, 64)
	case perSecond < 1e4:
		return strconv.FormatFloat(perSecond, 'f', 0, 64)
	case perSecond < 1e6:
		return strconv.FormatFloat(perSecond/1e3, 'f', 1, 64) + "k"
	}
	return strconv.FormatFloat(perSecond/1e6, 'f', 2, 64) + "M"
}
