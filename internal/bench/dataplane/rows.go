// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package dataplane measures the data plane: rows 1 to 6 of the goals in
// docs/BENCHMARKS.md. It runs the committed programs as they are, called by a
// harness that puts the frame right and gives it another id before each run, and
// takes off what the harness costs by itself.
package dataplane

import (
	"context"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Options are how much is measured.
type Options struct {
	Pairs   int // alternating runs of each measurement
	Runs    int // of the program, for each measurement
	Largest int // most sessions to measure with: rows of larger tables are left out
	// Progress is told what is measured next; nil: nobody is.
	Progress func(string)
}

// Sizes of the tables. As many slots as sessions: the allocator stops at 75 %, but
// what costs is the memory that packets touch.
const (
	smallTable   = 1 << 10
	millionTable = 1 << 20
	largeTable   = 8 << 20
)

// Measure gives rows 1 to 6, and beside them what ids without a tag would cost. The
// caller has locked its goroutine to a thread, best one with a CPU of its own.
func Measure(ctx context.Context, o Options) (report.Results, error) {
	var r report.Results
	for _, sessions := range []int{smallTable, millionTable, largeTable} {
		if sessions > o.Largest {
			continue
		}
		o.say("a table of %s sessions", sizeName(sessions))
		if err := measureTable(ctx, o, sessions, &r); err != nil {
			return r, err
		}
	}
	o.say("handshakes")
	rows, err := measureInit(ctx, o)
	r.Rows = append(r.Rows, rows...)
	r.Sort()
	return r, err
}

func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

func sizeName(sessions int) string {
	if sessions >= 1<<20 {
		return fmt.Sprintf("%d M", sessions>>20)
	}
	return fmt.Sprintf("%d k", sessions>>10)
}

// paired runs a and b in turn and returns how much more a took than b, for each
// pair, and b's times.
func paired(ctx context.Context, pairs int, a, b func() (float64, error)) (net, base []float64, err error) {
	for range pairs {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		y, err := b()
		if err != nil {
			return nil, nil, err
		}
		x, err := a()
		if err != nil {
			return nil, nil, err
		}
		net, base = append(net, x-y), append(base, y)
	}
	return net, base, nil
}

// productSpec is the committed data plane, with AF_XDP redirects.
func productSpec() (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadRoam()
	if err != nil {
		return nil, err
	}
	return spec, spec.Variables["xsk_enabled"].Set(true)
}

// program is the product's.
const program = "roam_xdp"

// dataFrame carries a DATA packet of 64 bytes; the harness fills the id in.
func dataFrame() []byte {
	b := make([]byte, 64)
	b[0] = wire.TypeData
	return harness.Somewhere.AppendFrame(nil, b)
}
