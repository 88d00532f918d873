// SPDX-License-Identifier: Apache-2.0

//go:build linux

package dataplane

import (
	"context"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
)

// plane is the product under the harness, with every slot taken.
type plane struct {
	*harness.Harness
	o        Options
	sessions int
}

func newPlane(o Options, sessions int) (*plane, error) {
	spec, err := productSpec()
	if err != nil {
		return nil, err
	}
	h, err := harness.Load(program, spec, harness.Options{Entries: map[string]uint32{"slots": uint32(sessions)}, Runs: o.Runs})
	if err != nil {
		return nil, err
	}
	p := &plane{h, o, sessions}
	if err := h.ConfigurePlane(nil); err != nil {
		h.Close()
		return nil, err
	}
	if err := harness.FillSlots(h.Maps["slots"], harness.Somewhere.Source); err != nil {
		h.Close()
		return nil, err
	}
	return p, nil
}

func (p *plane) name() string { return sizeName(p.sessions) }

// measureTable gives rows 1 to 5 for one number of sessions.
func measureTable(ctx context.Context, o Options, sessions int, r *report.Results) error {
	p, err := newPlane(o, sessions)
	if err != nil {
		return err
	}
	defer p.Close()
	if sessions == smallTable {
		if err := p.hot(ctx, r); err != nil {
			return err
		}
	} else {
		if err := p.random(ctx, r); err != nil {
			return err
		}
		if err := p.lookup(ctx, r); err != nil {
			return err
		}
	}
	return p.forged(ctx, r)
}

// hot gives row 1.
func (p *plane) hot(ctx context.Context, r *report.Results) error {
	if err := p.GiveFrame(dataFrame(), harness.OneID); err != nil {
		return err
	}
	net, base, err := paired(ctx, p.o.Pairs,
		func() (float64, error) { return p.TestRun(harness.Tested, harness.Redirect) },
		func() (float64, error) { return p.TestRun(harness.OnlyReturn, harness.Drop) })
	if err != nil {
		return err
	}
	r.Add(report.AtMost(1, "known id, everything in the cache, AF_XDP redirect", "ns", net, 40).Against("harness alone", "ns", base, nil))
	return nil
}

// random gives row 2.
func (p *plane) random(ctx context.Context, r *report.Results) error {
	if err := p.GiveFrame(dataFrame(), harness.LiveIDs); err != nil {
		return err
	}
	net, base, err := paired(ctx, p.o.Pairs,
		func() (float64, error) { return p.LiveRun(harness.Tested, harness.Redirect) },
		func() (float64, error) { return p.LiveRun(harness.OnlyReturn, harness.Drop) })
	if err != nil {
		return err
	}
	goal := 135.0
	if p.sessions > millionTable {
		goal = 190
	}
	r.Add(report.AtMost(2, "known ids in random order, live frames, table of "+p.name()+" ids", "ns", net, goal).Against("generator", "ns", base, nil))
	return nil
}

// Values of variant in variant.bpf.c.
const (
	variantSlot = iota
	variantHash
	variantLoad
	variantNone
	variantUntagged
)

// variant loads the fast path with another way to find sessions, over the same
// maps. entries is the size of its hash map.
func (p *plane) variant(v, entries int) (*harness.Harness, error) {
	spec, err := loadVariant()
	if err != nil {
		return nil, err
	}
	if err := spec.Variables["variant"].Set(uint32(v)); err != nil {
		return nil, err
	}
	if err := spec.Variables["xsk_enabled"].Set(true); err != nil {
		return nil, err
	}
	return p.over("variant_xdp", spec, map[string]uint32{"hash": uint32(entries)})
}

// again loads the product once more, over the same maps.
func (p *plane) again() (*harness.Harness, error) {
	spec, err := productSpec()
	if err != nil {
		return nil, err
	}
	return p.over(program, spec, map[string]uint32{})
}

// over loads a harness around another program over the plane's maps; entries are the
// sizes of the others.
func (p *plane) over(program string, tested *ebpf.CollectionSpec, entries map[string]uint32) (*harness.Harness, error) {
	shared := map[string]*ebpf.Map{}
	for _, name := range []string{"slots", "config", "listeners", "cpus", "xsks", "harness_configs", "harness_frames"} {
		shared[name] = p.Maps[name]
	}
	entries["slots"] = uint32(p.sessions)
	return harness.Load(program, tested, harness.Options{Entries: entries, Shared: shared, Runs: p.o.Runs})
}

// lookup gives row 4: the same fast path with the slot table and with a BPF hash
// map, both net of it without a lookup. Beside it stands what a single load costs.
func (p *plane) lookup(ctx context.Context, r *report.Results) error {
	var variants [variantNone + 1]*harness.Harness
	for v := range variants {
		entries := 1
		if v == variantHash {
			entries = p.sessions
		}
		h, err := p.variant(v, entries)
		if err != nil {
			return err
		}
		defer h.Close()
		if err := h.GiveFrame(dataFrame(), harness.LiveIDs); err != nil {
			return err
		}
		variants[v] = h
	}
	if err := harness.FillHash(variants[variantHash].Maps["hash"]); err != nil {
		return err
	}
	var slot, hash, load []float64
	for range p.o.Pairs {
		if err := ctx.Err(); err != nil {
			return err
		}
		var t [len(variants)]float64
		for v, h := range variants {
			var err error
			if t[v], err = h.LiveRun(harness.Tested, harness.Redirect); err != nil {
				return err
			}
		}
		slot = append(slot, t[variantSlot]-t[variantNone])
		hash = append(hash, t[variantHash]-t[variantNone])
		load = append(load, t[variantLoad]-t[variantNone])
	}
	goal := 4.5
	if p.sessions > millionTable {
		goal = 5
	}
	r.Add(report.AtLeast(4, fmt.Sprintf("slot lookup, table of %s ids", p.name()), "x", report.Ratios(hash, slot), goal).
		Against("BPF hash map", "ns", hash, slot))
	r.AddAside(report.Beside(4, fmt.Sprintf("one load from the table and nothing else, table of %s ids", p.name()), "ns", load))
	return nil
}
