// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command xdp measures the data plane: rows 1 to 6 of the goals in
// docs/BENCHMARKS.md. It runs the committed programs as they are, called by a
// harness that puts the frame right and gives it another id before each run, and
// takes off what the harness costs by itself.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bench/report"
)

const usage = `Usage: xdp [flags]

Measures the data plane (rows 1-6), prints a table and writes the results.
Needs root, and 2 GB of free memory for 8 M sessions (-largest 1048576: 0.3 GB).

Flags:
`

func main() {
	o := options{}
	results := flag.String("results", "bench/results.json", "`file` that the rows are written to")
	flag.IntVar(&o.pairs, "pairs", 7, "alternating runs of each measurement, at least 5")
	flag.IntVar(&o.runs, "runs", 1<<20, "runs of the program for each measurement")
	flag.IntVar(&o.largest, "largest", 8<<20, "most `sessions` to measure with; rows of larger tables are left out")
	flag.BoolVar(&o.onlyInit, "init", false, "measure row 6 alone")
	flag.IntVar(&o.cpu, "cpu", runtime.NumCPU()-1, "`CPU` to run on")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(o, *results); err != nil {
		fmt.Fprintln(os.Stderr, "xdp:", err)
		os.Exit(1)
	}
}

func run(o options, results string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it loads BPF programs; run it with sudo")
	}
	if o.pairs < 5 {
		return fmt.Errorf("-pairs %d: a median of fewer than 5 runs says little", o.pairs)
	}
	if o.runs < 1000 {
		return fmt.Errorf("-runs %d: at least 1000, or starting up is all that is measured", o.runs)
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(o.cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("running on CPU %d: %w", o.cpu, err)
	}
	// What else runs on this CPU would be counted as the program's time.
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -20); err != nil {
		return fmt.Errorf("raising the priority: %w", err)
	}
	debug.SetGCPercent(-1) // its signals interrupt test runs, and there is little to collect
	rows, err := measure(o)
	if err != nil {
		return err
	}
	if err := report.Print(os.Stdout, rows); err != nil {
		return err
	}
	return report.Save(results, report.ThisMachine(), rows)
}
