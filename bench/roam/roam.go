// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package roam measures how long a session is held up by a move of its client:
// row 20 of the goals in docs/BENCHMARKS.md. Server and client are the real ones,
// over loopback sockets with a delay of the benchmark's own in each direction; the
// network that the client leaves is gone in the same moment.
package roam

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/bench/report"
)

// roundTrips are the links that are measured.
var roundTrips = []time.Duration{40 * time.Millisecond, 10 * time.Millisecond}

// Options are how much is measured.
type Options struct {
	Rounds     int // each with fresh sessions
	Moves      int // known moves in each round, for each link; each beside one measurement without a move
	Noticed    int // moves that the system tells of, likewise
	Rebindings int // NAT rebindings, likewise
	// Progress is told of each round, and Detail gets a table of all that was measured.
	Progress func(string)
	Detail   io.Writer
}

// sequence is what happens in a round.
func (o Options) sequence() (all []kind) {
	for range o.Moves {
		all = append(all, none, known)
	}
	all = append(all, slices.Repeat([]kind{noticed}, o.Noticed)...)
	return append(all, slices.Repeat([]kind{rebound}, o.Rebindings)...)
}

// Measure gives row 20.
func Measure(ctx context.Context, o Options) (r report.Results, err error) {
	// Who sleeps in the kernel keeps a processor of the runtime's for a while.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(16, runtime.NumCPU())))
	// The link copies every packet, which a network would not: it is collected
	// between moves.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	s, err := measure(ctx, o)
	if err != nil {
		return r, err
	}
	if err := s.failed(); err != nil {
		return r, err
	}
	rows, asides := s.rows()
	r.Add(rows...)
	r.AddAside(asides...)
	return r, s.print(o.Detail)
}

// samples are those of each round, by kind and link.
type samples []map[kind][][]sample

func measure(ctx context.Context, o Options) (samples, error) {
	var all samples
	for round := range o.Rounds {
		o.Progress(fmt.Sprintf("round %d of %d", round+1, o.Rounds))
		of := map[kind][][]sample{}
		for link, roundTrip := range roundTrips {
			r, err := newRig(ctx, roundTrip)
			if err != nil {
				return nil, err
			}
			for k := range kind(numKinds) {
				of[k] = append(of[k], nil)
			}
			for _, k := range o.sequence() {
				s, err := r.move(ctx, k)
				if err != nil {
					return nil, errors.Join(err, r.close())
				}
				of[k][link] = append(of[k][link], s)
			}
			if err := r.close(); err != nil {
				return nil, err
			}
		}
		all = append(all, of)
	}
	return all, nil
}

// rows are the known moves', over all links, by round.
//
// A datagram's first byte meets the noise of the machine whether its sender has moved
// or not, and its wait for the next of a stream's moments. So the row is what a move
// adds to the 99th percentile: that of the first bytes after moves less that of those
// without one, which were measured in turn. (That is no percentile of what each move
// adds, which nobody can see: both figures stand beside it.)
func (all samples) rows() ([]report.Row, []report.Aside) {
	of := func(p int, k kind, f func(sample) time.Duration) (runs []float64) {
		for _, round := range all {
			runs = append(runs, percentile(p, slices.Concat(round[k]...), f))
		}
		return runs
	}
	first := func(s sample) time.Duration { return s.first }
	full := func(s sample) time.Duration { return s.full }
	added := func(p int) (excess, still, moved []float64) {
		still, moved = of(p, none, first), of(p, known, first)
		for i := range moved {
			excess = append(excess, moved[i]-still[i])
		}
		return excess, still, moved
	}
	const peer = "a datagram without a move"
	excess99, still99, moved99 := added(99)
	excess50, still50, moved50 := added(50)
	return []report.Row{
			report.AtMost(20, "announced move: delay added to the first datagram to the server, p99", "ms", excess99, 1).Against(peer, "ms", still99, moved99),
			report.AtMost(20, "announced move: full rate from the server again, beyond one-way delay + 1 RTT, p99", "ms", of(99, known, full), 5),
		}, []report.Aside{
			report.Beside(20, "announced move: delay added to the first datagram to the server, p50", "ms", excess50).Against(peer, "ms", still50, moved50),
		}
}

// print writes all that was measured, by kind and link.
func (all samples) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "\nWHAT\tRTT\tMOVES\tFAILED\tFIRST BYTE ms p50/p99/max\tFULL RATE ms p50/p99/max\tSEEN BY THE CLIENT ms p50/p99\tHELD p50")
	for k := range kind(numKinds) {
		for link, roundTrip := range roundTrips {
			var s []sample
			for _, round := range all {
				s = append(s, round[k][link]...)
			}
			if len(s) == 0 {
				continue
			}
			of := func(p int, f func(sample) time.Duration) float64 { return percentile(p, s, f) }
			first := func(s sample) time.Duration { return s.first }
			full := func(s sample) time.Duration { return s.full }
			seen := func(s sample) time.Duration { return s.seen }
			if k == none {
				fmt.Fprintf(tw, "%v\t%v\t%d\t%d\t%.2f / %.2f / %.2f\n", k, roundTrip, len(s), failures(s), of(50, first), of(99, first), of(100, first))
				continue
			}
			held := func(s sample) time.Duration { return time.Duration(s.held) * time.Millisecond }
			fmt.Fprintf(tw, "%v\t%v\t%d\t%d\t%.2f / %.2f / %.2f\t%.2f / %.2f / %.2f\t%.1f / %.1f\t%.0f\n", k, roundTrip, len(s), failures(s),
				of(50, first), of(99, first), of(100, first), of(50, full), of(99, full), of(100, full), of(50, seen), of(99, seen), of(50, held))
		}
	}
	fmt.Fprintln(tw, "First byte beyond the one-way delay, full rate beyond that and one round trip; a failed move counts as", timeout)
	return tw.Flush()
}

func failures(s []sample) (n int) {
	for i := range s {
		if s[i].err != nil {
			n++
		}
	}
	return n
}

// failed tells of every move that failed.
func (all samples) failed() error {
	var errs []error
	for _, round := range all {
		for _, links := range round {
			for _, s := range slices.Concat(links...) {
				errs = append(errs, s.err)
			}
		}
	}
	return errors.Join(errs...)
}

// percentile returns the smallest value in ms that p percent do not exceed.
func percentile(p int, s []sample, f func(sample) time.Duration) float64 {
	values := make([]time.Duration, len(s))
	for i := range s {
		values[i] = f(s[i])
	}
	slices.Sort(values)
	return float64(values[max((len(s)*p+99)/100, 1)-1]) / float64(time.Millisecond)
}
