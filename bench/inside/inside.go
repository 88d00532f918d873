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
	Sessions int    // that move
	Few      int    // of row 15, and beside row 14
	Idle     int    // sessions that are idle
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
	if err := o.moves(&r, run); err != nil {
		return r, err
	}
	if err := o.mixture(&r, run); err != nil {
		return r, err
	}
	return r, o.idle(&r, run)
}

// moves gives row 14, and beside it the same of few sessions, more of which a cache holds.
func (o Options) moves(r *report.Results, run func(...string) ([]byte, error)) error {
	for _, sessions := range []int{o.Sessions, o.Few} {
		o.say("moves of %d sessions", sessions)
		out, err := run("-test.run=^$", "-test.bench=^BenchmarkMoves$", fmt.Sprintf("-test.benchtime=%dx", o.Moves),
			fmt.Sprintf("-moves.runs=%d", o.Pairs), fmt.Sprintf("-moves.sessions=%d", sessions))
		if err != nil {
			return err
		}
		for _, kind := range []struct {
			match, what string
			goal        float64
		}{
			{"rebind=true", "NAT rebinding", 300},
			{"rebind=false", "with new ids", 100},
		} {
			moves := metric(out, kind.match, "kmoves/s")
			if len(moves) < o.Pairs {
				return fmt.Errorf("no figures of %s in: %s", kind.match, out)
			}
			if sessions != o.Sessions {
				r.AddAside(report.Beside(14, fmt.Sprintf("validated moves per core, %s, %s sessions", kind.what, thousands(sessions)), "k/s", moves))
				continue
			}
			r.Add(report.AtLeast(14, fmt.Sprintf("validated moves per core, %s, %s sessions", kind.what, thousands(sessions)), "k/s", moves, kind.goal))
		}
	}
	return nil
}

// idle gives row 18: a server whose sessions all say nothing. It is measured once: the
// memory is the same each time, and the rest stands beside it.
func (o Options) idle(r *report.Results, run func(...string) ([]byte, error)) error {
	o.say("%d idle sessions", o.Idle)
	out, err := run("-test.run=^$", "-test.bench=^BenchmarkIdle$", "-test.benchtime=1x", fmt.Sprintf("-idle.sessions=%d", o.Idle))
	if err != nil {
		return err
	}
	const derived, shaken = "made=derived/", "made=shaken/"
	var missing error
	one := func(match, unit string, scale float64) []float64 {
		runs := metric(out, match, unit)
		if len(runs) != 1 {
			missing = fmt.Errorf("no %s of %s in: %s", unit, match, out)
		}
		for i := range runs {
			runs[i] *= scale
		}
		return runs
	}
	of := thousands(o.Idle) + " idle sessions"
	r.Add(report.AtMost(18, "Go heap per session, "+of, "KiB", one(derived, "B/session", 1.0/1024), 1.5))
	for _, aside := range []struct {
		what, unit, match, metric string
		scale                     float64
	}{
		{"the same, a few thousand sessions made by real handshakes", "KiB", shaken, "B/session", 1.0 / 1024},
		{"resident memory per session, " + of, "KiB", derived, "B-resident/session", 1.0 / 1024},
		{"CPU use of " + of + ", of one core", "%", derived, "%core", 1},
		{"CPU time of one garbage collection, " + of, "ms", derived, "ms/collection", 1},
		{"time that one garbage collection stops everything else, " + of, "us", derived, "us/pause", 1},
		{"listing " + of, "ms", derived, "ms/list", 1},
	} {
		r.AddAside(report.Beside(18, aside.what, aside.unit, one(aside.match, aside.metric, aside.scale)))
	}
	return missing
}

// mixture gives row 15: a worker that opens datagrams and moves sessions.
func (o Options) mixture(r *report.Results, run func(...string) ([]byte, error)) error {
	const goal = 100 // thousand moves each second
	sessions := o.Few / 2
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
			r.AddAside(report.Beside(15, fmt.Sprintf("the same, %d k/s requested", rate), "%", kept).
				Against("moves made", "k/s", moves, nil))
			continue
		}
		row := report.AtLeast(15, fmt.Sprintf("data rate kept by a core that also makes moves, %d k/s requested, 1400 B", rate), "%", kept, 90).
			Against("moves made", "k/s", moves, nil)
		row.Met = row.Met && row.Peer.Value >= 0.99*goal // what was kept at fewer moves reaches nothing
		r.Add(row)
	}
	if out, err = run("-test.run=^$", "-test.bench=^BenchmarkDataBesideMoves$", fmt.Sprintf("-test.benchtime=%dx", o.Moves),
		fmt.Sprintf("-test.count=%d", o.Pairs), fmt.Sprintf("-moves.sessions=%d", sessions)); err != nil {
		return err
	}
	const match = "BenchmarkDataBesideMoves/"
	kept, moves := metric(out, match, "%kept"), metric(out, match, "kmoves/s")
	if len(kept) < o.Pairs || len(moves) < o.Pairs {
		return fmt.Errorf("no figures of %s in: %s", match, out)
	}
	r.AddAside(report.Beside(15, "data rate kept by a worker while another one makes all moves, one core each", "%", kept).
		Against("moves made by the other", "k/s", moves, nil))
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
