// SPDX-License-Identifier: Apache-2.0

//go:build linux

package intake

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"runtime/debug"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
)

// byCPUMap has XDP hand each frame to another CPU, whose kernel brings it to a UDP
// socket: what xdp-roam could do instead of AF_XDP.
var byCPUMap = way{"CPUMAP", harness.OnlyCPUMap, func(_ *bench, a netip.AddrPort) (reader, error) { return openMMsg(a) }}

// MeasureCPUMap gives what stands beside row 7: CPUMAP against XDP_PASS, both into a
// socket that recvmmsg reads. The CPU time of the kernel's thread that takes frames
// over is not this process's, so only rates compare.
func MeasureCPUMap(ctx context.Context, o Options) (r report.Results, err error) {
	b, err := newBench(o, network.LikeWire)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.h.RedirectTo((network.GeneratorCPU + 1) % runtime.NumCPU()); err != nil {
		return r, err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // its signals interrupt the generator
	var g generator
	rate := func(w way) func() (float64, error) {
		return func() (float64, error) {
			f, err := b.run(w, g)
			return f.rate, err
		}
	}
	runs, err := report.Alternate(ctx, o.Pairs,
		func() (_ float64, err error) {
			g, err = b.generator()
			return g.perFrame, err
		}, rate(byCPUMap), rate(byMMsg))
	if err != nil {
		return r, err
	}
	r.AddAside(report.Beside(7, "XDP redirect to another CPU (CPUMAP) / XDP_PASS, both received with recvmmsg", "x", report.Ratios(runs[1], runs[2])).
		Against("XDP_PASS", "Mpps", runs[2], runs[1]))
	return r, nil
}
