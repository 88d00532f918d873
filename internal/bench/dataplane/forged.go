// SPDX-License-Identifier: Apache-2.0

//go:build linux

package dataplane

import (
	"context"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
)

// forged gives rows 3 and 5: made-up ids, whatever the table holds. Beside row 3
// stands what they would cost if ids had no tag and all had to be looked for.
func (p *plane) forged(ctx context.Context, r *report.Results) error {
	if err := p.GiveFrame(dataFrame(), harness.Forged); err != nil {
		return err
	}
	only := func() (float64, error) { return p.TestRun(harness.OnlyReturn, harness.Drop) }
	net, base, err := paired(ctx, p.o.Pairs,
		func() (float64, error) { return p.TestRun(harness.Tested, harness.Drop) }, only)
	if err != nil {
		return err
	}
	r.Add(report.AtMost(3, "forged id, table of "+p.name()+" ids", "ns", net, 25).Against("harness alone", "ns", base, nil))
	untagged, err := p.variant(variantUntagged, 1)
	if err != nil {
		return err
	}
	defer untagged.Close()
	if err := untagged.GiveFrame(dataFrame(), harness.Forged); err != nil {
		return err
	}
	without, _, err := paired(ctx, p.o.Pairs,
		func() (float64, error) { return untagged.TestRun(harness.Tested, harness.Drop) }, only)
	if err != nil {
		return err
	}
	r.AddAside(report.Beside(3, "forged id, if ids carried no tag, table of "+p.name()+" ids", "ns", without))
	if p.sessions == millionTable {
		return nil
	}
	return p.dropRate(ctx, r)
}

// dropLoads is how often row 5's program is loaded, for as many runs each as the other
// measurements have: a nanosecond more or less is a hundredth of what the row tells, and
// where the kernel puts a program makes two.
const dropLoads = 5

// dropRate gives row 5.
func (p *plane) dropRate(ctx context.Context, r *report.Results) error {
	var bare, dropped []float64 // Mpps
	for range dropLoads {
		b, d, err := p.dropRates(ctx)
		if err != nil {
			return err
		}
		bare, dropped = append(bare, b...), append(dropped, d...)
	}
	r.Add(report.AtLeast(5, "drop rate of forged ids / bare XDP_DROP, table of "+p.name()+" ids", "x", report.Ratios(dropped, bare), 0.8).
		Against("XDP_DROP", "Mpps", bare, dropped))
	return nil
}

// dropRates loads the program anew and returns the rates at which frames are dropped at
// once and by it, in Mpps.
func (p *plane) dropRates(ctx context.Context) (bare, dropped []float64, err error) {
	h, err := p.again()
	if err != nil {
		return nil, nil, err
	}
	defer h.Close()
	if err := h.GiveFrame(dataFrame(), harness.Forged); err != nil {
		return nil, nil, err
	}
	runs, err := report.Alternate(ctx, p.o.Pairs,
		func() (float64, error) { return h.LiveRun(harness.BareDrop, harness.Uncounted) },
		func() (float64, error) { return h.LiveRun(harness.OnlyReturn, harness.Drop) },
		func() (float64, error) { return h.LiveRun(harness.Tested, harness.Drop) })
	if err != nil {
		return nil, nil, err
	}
	for i, alone := range runs[0] {
		// What the harness adds is the generator's, not the program's.
		harness := runs[1][i] - alone
		bare, dropped = append(bare, 1000/alone), append(dropped, 1000/(runs[2][i]-harness))
	}
	return bare, dropped, nil
}
