// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package inside measures what only the server's own package can: rows 14, 15 and 18 of
// the goals in docs/BENCHMARKS.md. It runs that package's benchmarks and reads what they
// print, in the format of the testing package.
package inside

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/xdp-roam/xdp-roam/internal/bench/report"
)

// Options are how much is measured.
type Options struct {
	Pairs    int    // runs of each measurement
	Sessions int    // that move, or are idle
	Moves    int    // in each run
	Source   string // the directory of the main module
	// Progress is told what is measured next; nil: nobody is.
	Progress func(string)
}

// Measure gives rows 14 and 15 and the heap's part of row 18. Where it fails, it gives
// what it has measured as well.
func Measure(ctx context.Context, o Options) (r report.Results, err error) {
	dir, err := os.MkdirTemp("", "xdp-roam-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o.say("building the server's benchmarks")
	binary := filepath.Join(dir, "server.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "./userspace/server")
	build.Dir = o.Source
	if out, err := build.CombinedOutput(); err != nil {
		return r, fmt.Errorf("building the server's benchmarks: %w: %s", err, out)
	}
	run := func(arguments ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, binary, append(arguments, "-test.timeout=5m")...)
		cmd.Dir = filepath.Join(o.Source, "userspace", "server")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return out, fmt.Errorf("%s: %w: %s", strings.Join(arguments, " "), err, out)
		}
		return out, nil
	}
	o.say("moves of %d sessions", o.Sessions)
	out, err := run("-test.run=^$", "-test.bench=^BenchmarkMoves$", fmt.Sprintf("-test.benchtime=%dx", o.Moves),
		fmt.Sprintf("-test.count=%d", o.Pairs), fmt.Sprintf("-moves.sessions=%d", o.Sessions))
	if err != nil {
		return r, err
	}
	for _, kind := range []struct {
		match, what string
		goal        float64
	}{
		{"rebind=true", "validated moves for each core, a NAT's rebinding", 300},
		{"rebind=false", "validated moves for each core, with new ids", 100},
	} {
		moves := metric(out, kind.match, "kmoves/s")
		if len(moves) < o.Pairs {
			return r, fmt.Errorf("no figures of %s in: %s", kind.match, out)
		}
		r.Add(report.AtLeast(14, fmt.Sprintf("%s, %s sessions", kind.what, thousands(o.Sessions)), "k/s", moves, kind.goal))
	}
	if err := o.mixture(&r, run); err != nil {
		return r, err
	}
	o.say("memory of %d idle sessions", o.Sessions)
	var heap []float64
	for range o.Pairs {
		out, err := run("-test.run=^TestIdleMemory$", "-test.v", fmt.Sprintf("-memory.sessions=%d", o.Sessions))
		each, unread := idle(out)
		if unread != nil { // it fails above its goal, which is no failure here
			return r, errors.Join(err, unread)
		}
		heap = append(heap, each/1024)
	}
	r.Add(report.AtMost(18, fmt.Sprintf("Go heap for each of %s idle sessions", thousands(o.Sessions)), "KiB", heap, 1.5))
	return r, nil
}

// mixture gives row 15: a worker that opens datagrams and moves sessions.
func (o Options) mixture(r *report.Results, run func(...string) ([]byte, error)) error {
	const goal = 100 // thousand moves each second
	sessions := o.Sessions / 2
	o.say("data of 64 sessions while %d others move", sessions)
	out, err := run("-test.run=^$", "-test.bench=^BenchmarkDataAndMoves$", fmt.Sprintf("-test.benchtime=%dx", 2*o.Moves),
		fmt.Sprintf("-test.count=%d", o.Pairs), fmt.Sprintf("-moves.sessions=%d", sessions))
	if err != nil {
		return err
	}
	for _, rate := range []int{goal, goal / 2, goal / 10} {
		match := fmt.Sprintf("moves=%d/", rate*1000)
		kept, moves := metric(out, match, "%kept"), metric(out, match, "kmoves/s")
		if len(kept) < o.Pairs || len(moves) < o.Pairs {
			return fmt.Errorf("no figures of %s in: %s", match, out)
		}
		if rate != goal {
			r.AddAside(report.Beside(15, fmt.Sprintf("the same, %d k moves/s asked of the core", rate), "%", kept).
				Against("moves it did", "k/s", moves, nil))
			continue
		}
		row := report.AtLeast(15, fmt.Sprintf("data rate kept by one core while it does moves too, %d k/s asked of it, 1400 B", rate), "%", kept, 90).
			Against("moves it did", "k/s", moves, nil)
		row.Met = row.Met && row.Peer.Value >= 0.99*goal // what was kept at fewer moves reaches nothing
		r.Add(row)
	}
	return nil
}

func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

func thousands(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d M", n>>20)
	}
	return fmt.Sprintf("%d k", n>>10)
}

// metric returns a metric of all benchmarks whose names contain match: lines such as
//
//	BenchmarkMoves/rebind=true/sessions=32768-2  262144  312.5 kmoves/s
func metric(output []byte, match, unit string) (values []float64) {
	for s := bufio.NewScanner(bytes.NewReader(output)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") || !strings.Contains(f[0], match) {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil && f[i+1] == unit {
				values = append(values, v)
			}
		}
	}
	return values
}

// idle reads what TestIdleMemory logs.
func idle(output []byte) (float64, error) {
	const words = " bytes for each of "
	before, _, found := strings.Cut(string(output), words)
	if !found {
		return 0, fmt.Errorf("no figure in: %s", output)
	}
	fields := strings.Fields(before)
	return strconv.ParseFloat(fields[len(fields)-1], 64)
}
