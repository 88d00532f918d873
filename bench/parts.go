// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/xdp-roam/xdp-roam/bench/handshakes"
	"github.com/xdp-roam/xdp-roam/bench/inside"
	"github.com/xdp-roam/xdp-roam/bench/path"
	"github.com/xdp-roam/xdp-roam/bench/roam"
	"github.com/xdp-roam/xdp-roam/bench/table"
	"github.com/xdp-roam/xdp-roam/bench/worker"
	"github.com/xdp-roam/xdp-roam/internal/bench/dataplane"
	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/intake"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
)

// options are the command's flags that change what is measured.
type options struct {
	pairs  int
	source string
}

// part is some rows that are measured together.
type part struct {
	name, what string
	limit      time.Duration // it takes no longer than this, or something is wrong
	measure    func(context.Context, options) (report.Results, error)
}

var parts = []part{
	{"xdp", "the data plane, rows 1-6", 4 * time.Minute, measureXDP},
	{"rx", "packets into a worker, and the whole path, rows 7-9, 11 and 12", 6 * time.Minute, measureRX},
	{"socket", "choosing a socket, and GSO over veth, row 19", 3 * time.Minute, measureSocket},
	{"crypto", "a worker compared with decryption alone, and handshakes, rows 10, 16 and 17", 3 * time.Minute, measureCrypto},
	{"control", "the session table, moves and memory, rows 13 to 15 and 18", 6 * time.Minute, measureControl},
	{"roam", "how soon datagrams flow again after a move, row 20", 4 * time.Minute, measureRoam},
}

// progress tells who waits what is being measured.
func progress(what string) { fmt.Fprintln(os.Stderr, "  ", what) }

func measureXDP(ctx context.Context, o options) (report.Results, error) {
	restore, err := harness.OwnThread(runtime.NumCPU() - 1)
	if err != nil {
		return report.Results{}, err
	}
	defer restore()
	return dataplane.Measure(ctx, dataplane.Options{Pairs: o.pairs, Runs: 1 << 20, Largest: 8 << 20, Progress: progress})
}

func measureRX(ctx context.Context, o options) (report.Results, error) {
	r, err := intake.Measure(ctx, intakeOptions(o))
	if err != nil {
		return r, err
	}
	cpumap, err := intake.MeasureCPUMap(ctx, intakeOptions(o))
	if err != nil {
		return r, err
	}
	r.AddAside(cpumap.Asides...)
	more, err := path.Measure(ctx, path.Options{Pairs: o.pairs, Datagrams: 1 << 15, QUIC: quicClient, Progress: progress})
	r.Add(more.Rows...)
	r.AddAside(more.Asides...)
	return r, err
}

func intakeOptions(o options) intake.Options {
	return intake.Options{Pairs: o.pairs, Frames: 1 << 20, Sessions: 1 << 10, Progress: progress}
}

// measureSocket is a part of its own: a kernel that cannot send trains fails it, and
// leaves the rows of the others.
func measureSocket(ctx context.Context, o options) (report.Results, error) {
	progress("choosing a socket")
	r, err := intake.MeasureSteering(ctx, intakeOptions(o))
	if err != nil {
		return r, err
	}
	progress("trains over veth")
	trains, err := intake.MeasureTrains(ctx, intakeOptions(o))
	r.Add(trains.Rows...)
	r.AddAside(trains.Asides...)
	return r, err
}

// quicClient is this program again.
func quicClient(size int) *exec.Cmd {
	return exec.Command("/proc/self/exe", "-quic", strconv.Itoa(size))
}

func measureCrypto(ctx context.Context, o options) (report.Results, error) {
	r, err := worker.Measure(ctx, worker.Options{Pairs: o.pairs, Datagrams: 1 << 16, Progress: progress})
	if err != nil {
		return r, err
	}
	more, err := handshakes.Measure(ctx, handshakes.Options{Pairs: o.pairs, Handshakes: 2000})
	r.Add(more.Rows...)
	r.AddAside(more.Asides...)
	return r, err
}

func measureControl(ctx context.Context, o options) (report.Results, error) {
	r, err := table.Measure(ctx, table.Options{Pairs: o.pairs, Slots: 1 << 20, Scan: 8 << 20, Load: 8 << 20, Writes: 1 << 20})
	if err != nil {
		return r, err
	}
	more, err := inside.Measure(ctx, inside.Options{Pairs: o.pairs, Sessions: 1 << 20, Few: 1 << 15, Idle: 1 << 20, Moves: 1 << 16, Source: o.source, Progress: progress})
	r.Add(more.Rows...)
	r.AddAside(more.Asides...)
	return r, err
}

func measureRoam(ctx context.Context, o options) (report.Results, error) {
	return roam.Measure(ctx, roam.Options{
		Rounds: o.pairs, Moves: 50, Noticed: 10, Rebindings: 10, Progress: progress, Detail: os.Stderr,
	})
}
