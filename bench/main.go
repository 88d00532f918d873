// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures xdp-roam against its goals and its peers: every row of
// docs/BENCHMARKS.md. Each part runs in a process of its own, so that none leaves
// anything behind in memory for the next.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/bench/peer"
	"github.com/xdp-roam/xdp-roam/bench/worker"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
)

const usage = `Usage: bench [flags] [PART...]

Measures the parts named, or all, prints one table (goal, this run, met or not) and
writes the results. Needs root, Linux, an otherwise idle machine, and 4 GB of memory.

Parts:
`

func main() {
	results := flag.String("results", "results.json", "`file` that the rows are written to")
	docs := flag.String("docs", "", "measure nothing: fill the tables of this `file` from the results")
	profile := flag.String("profile", "", "measure nothing: write CPU profiles of a worker to this `directory`")
	child := flag.Bool("child", false, "measure one part and write it to stdout as JSON: what bench starts itself as")
	quic := flag.Int("quic", 0, "send QUIC datagrams of this `size`, forever: what bench starts itself as")
	var o options
	flag.StringVar(&o.source, "source", ".", "the source tree's `directory`, whose own benchmarks give rows 14, 15 and 18")
	flag.IntVar(&o.pairs, "pairs", 5, "alternating runs of each measurement, at least 5")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		for _, p := range parts {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-9s %s\n", p.name, p.what)
		}
		fmt.Fprint(flag.CommandLine.Output(), "\nFlags:\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if *quic > 0 {
		fmt.Fprintln(os.Stderr, "bench: quic-go's client:", peer.SendQUIC(ctx, *quic))
		os.Exit(1)
	}
	if *profile != "" {
		if _, err := worker.Profile(ctx, *profile, 5*time.Second); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, o, *results, *docs, *child, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, results, docs string, child bool, names []string) error {
	if docs != "" {
		return fill(docs, results)
	}
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root: it loads BPF programs and makes network namespaces; run it with sudo")
	}
	if o.pairs < 5 {
		return fmt.Errorf("-pairs %d: a median of fewer than 5 runs says little", o.pairs)
	}
	if child {
		return measure(ctx, chosen[0], o)
	}
	return all(ctx, chosen, o, results)
}

func choose(names []string) ([]part, error) {
	if len(names) == 0 {
		return parts, nil
	}
	var chosen []part
	for _, name := range names {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no part %q: see -help", name)
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

// measure is the child's side.
func measure(ctx context.Context, p part, o options) error {
	r, err := p.measure(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// all runs the parts one after another and prints what they found. A part that
// fails leaves its rows out and the others alone.
func all(ctx context.Context, chosen []part, o options, results string) error {
	here := report.Results{Machine: report.ThisMachine()}
	var failed []string
	for _, p := range chosen {
		fmt.Fprintf(os.Stderr, "== %s: %s\n", p.name, p.what)
		start := time.Now()
		r, err := inProcess(ctx, p, o)
		if ctx.Err() != nil {
			return errors.New("interrupted; nothing is left behind")
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", p.name, err)
			failed = append(failed, p.name)
			continue
		}
		fmt.Fprintf(os.Stderr, "== %s took %.0f s\n", p.name, time.Since(start).Seconds())
		r.Machine = here.Machine
		if err := report.Save(results, r); err != nil {
			return err
		}
		here.Add(r.Rows...)
		here.AddAside(r.Asides...)
	}
	here.Sort()
	if err := here.Print(os.Stdout); err != nil {
		return err
	}
	fmt.Printf("\n%d of %d rows reach their goals; written to %s\n", here.Met(), len(here.Rows), results)
	if len(failed) > 0 {
		return fmt.Errorf("not measured: %s", strings.Join(failed, ", "))
	}
	return nil
}

// inProcess runs one part in a process of its own, within its time.
func inProcess(ctx context.Context, p part, o options) (r report.Results, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self, "-child", "-pairs", fmt.Sprint(o.pairs), "-source", o.source, p.name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return r, fmt.Errorf("took longer than %v", p.limit)
	}
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

// fill writes the tables of a document.
func fill(docs, results string) error {
	r, err := report.Load(results)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(docs)
	if err != nil {
		return err
	}
	filled, err := r.Fill(text)
	if err != nil {
		return fmt.Errorf("%s: %w", docs, err)
	}
	return os.WriteFile(docs, filled, 0o644)
}
