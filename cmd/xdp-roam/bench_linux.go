// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/internal/bench/dataplane"
	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/intake"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
)

// benchKind is the kind of the JSON document.
const benchKind = "Measurement"

// benchFlags are how much the benchmark measures.
type benchFlags struct {
	quick bool
}

func newBenchCommand(e *env) *cobra.Command {
	var flags benchFlags
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the data plane on this machine",
		Long: `bench measures the cost of the data plane on this machine, with live frames and
test runs of its own programs. It touches no network interface of the host and leaves
nothing behind. It takes about two minutes on an otherwise idle machine and needs root.

Rows are numbered as in docs/BENCHMARKS.md: 1-3 and 6 are nanoseconds per packet, net of
the generator; 4 compares the slot table with a BPF hash map; 5 compares the drop rate
of forged ids with that of a program that drops every packet; 7 and 8 compare packets
into a Go worker over AF_XDP with plain sockets. Goals are shown only for ratios, which
are meaningful on any machine.`,
		Example: `  xdp-roam bench`,
		Args:    arguments(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return runBench(c.Context(), e, flags) },
	}
	c.Flags().BoolVar(&flags.quick, "quick", false, "only a few runs of each, to see whether they work, not how fast")
	return c
}

// Memory that the largest tables take, in MB: slots, and a hash map to compare with.
const benchMemory = 3 << 10

func runBench(ctx context.Context, e *env, flags benchFlags) error {
	const fix = "run it as root (sudo), in a container with --privileged"
	if os.Geteuid() != 0 {
		return &fault{code: exitPermission, what: "the benchmark needs root: it loads BPF programs and creates network namespaces", fix: fix}
	}
	progress := func(what string) { fmt.Fprintln(e.stderr, what) }
	plane := dataplane.Options{Pairs: 5, Runs: 1 << 20, Largest: 8 << 20, Progress: progress}
	worker := intake.Options{Pairs: 5, Frames: 1 << 20, Sessions: 1 << 10, Progress: progress}
	machine := report.ThisMachine()
	switch {
	case flags.quick:
		plane.Runs, plane.Largest, worker.Pairs, worker.Frames = 2000, 1<<10, 1, 20_000
	case machine.MemoryMB < benchMemory:
		fmt.Fprintf(e.stderr, "%d MB of memory: no tables of 8 M sessions, which take %d\n", machine.MemoryMB, benchMemory)
		plane.Largest = 1 << 20
	}
	fmt.Fprintln(e.stderr, machine)
	var results report.Results
	for _, part := range []func() (report.Results, error){
		func() (report.Results, error) { return measurePlane(ctx, plane) },
		func() (report.Results, error) { return intake.Measure(ctx, worker) },
	} {
		r, err := part()
		switch {
		case canceled(ctx, err):
			return &fault{code: exitFailure, what: "the benchmark was interrupted; nothing is left behind"}
		case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
			return &fault{code: exitPermission, what: "the benchmark lacks permissions", err: err, fix: fix}
		case err != nil:
			return &fault{what: "the benchmark failed", err: err}
		}
		results.Add(r.Rows...)
		results.AddAside(r.Asides...)
	}
	return showBench(e, results, !flags.quick)
}

// measurePlane runs on a goroutine whose thread ends with it: it keeps its CPU and priority.
func measurePlane(ctx context.Context, o dataplane.Options) (r report.Results, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var restore func()
		if restore, err = harness.OwnThread(runtime.NumCPU() - 1); err != nil {
			return
		}
		defer restore()
		r, err = dataplane.Measure(ctx, o)
	}()
	<-done
	return r, err
}

// measurement is a row as this command shows it: a goal that holds for one kind of
// machine is none here.
type measurement struct {
	Row   int          `json:"row"`
	Name  string       `json:"name"`
	Unit  string       `json:"unit"`
	Value float64      `json:"value"`
	Goal  string       `json:"goal,omitempty"`
	Met   *bool        `json:"met,omitempty"`
	Peer  *report.Peer `json:"peer,omitempty"`
	Runs  []float64    `json:"runs"`
}

// showBench prints the rows; judged: long enough runs to tell whether a goal is met.
func showBench(e *env, r report.Results, judged bool) error {
	var items []measurement
	for _, row := range r.Rows {
		m := measurement{Row: row.Row, Name: row.Name, Unit: row.Unit, Value: row.Value, Peer: row.Peer, Runs: row.Runs}
		if judged && row.Portable() {
			m.Goal, m.Met = row.Goal, &row.Met
		}
		items = append(items, m)
	}
	for _, a := range r.Asides {
		items = append(items, measurement{Row: a.Row, Name: a.Name, Unit: a.Unit, Value: a.Value, Peer: a.Peer, Runs: a.Runs})
	}
	slices.SortStableFunc(items, func(a, b measurement) int { return a.Row - b.Row })
	return show(e, benchKind, items, []column[measurement]{
		{name: "row", value: func(m measurement) string { return fmt.Sprint(m.Row) }},
		{name: "what", value: func(m measurement) string { return m.Name }},
		{name: "value", value: func(m measurement) string { return report.Number(m.Value) + " " + m.Unit }},
		{name: "range", value: func(m measurement) string { return report.Spread(m.Runs) }},
		{name: "goal", value: func(m measurement) string { return m.Goal }},
		{name: "met", value: func(m measurement) string {
			if m.Met == nil {
				return ""
			}
			return map[bool]string{true: "yes", false: "no"}[*m.Met]
		}},
		{name: "against", value: func(m measurement) string { return m.Peer.String() }},
	})
}
