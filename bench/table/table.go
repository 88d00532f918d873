// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package table measures what the session table costs the control plane: row 13 of
// the goals in docs/BENCHMARKS.md. The table is memory that the kernel shares with
// this process; the peers go the usual way, by system calls.
package table

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/maps"
)

// Options are how much is measured.
type Options struct {
	Pairs  int // alternating runs of each measurement
	Slots  int // of the table that is written, a power of two
	Scan   int // slots of the table that is scanned, likewise
	Load   int // ids that are loaded, into twice as many slots
	Writes int // in each run
}

const slotSize = 64

// Measure gives row 13.
func Measure(ctx context.Context, o Options) (r report.Results, err error) {
	if err := writes(ctx, o, &r); err != nil {
		return r, err
	}
	if err := scans(ctx, o, &r); err != nil {
		return r, err
	}
	runs, err := report.Alternate(ctx, o.Pairs, func() (float64, error) { return load(o.Load) })
	if err != nil {
		return r, err
	}
	r.Add(report.AtMost(13, fmt.Sprintf("loading %d M ids", o.Load>>20), "s", runs[0], 2))
	return r, nil
}

// create makes a data plane's maps and opens the table's own, for the peers.
func create(slots int) (set *maps.Set, raw map[string]*ebpf.Map, err error) {
	if set, err = maps.Create(uint32(slots)); err != nil {
		return nil, nil, err
	}
	if err := set.Identify(0, func(generation uint8) [16]byte { return [16]byte{1 + generation} }); err != nil {
		return nil, nil, errors.Join(err, set.Close())
	}
	if raw, err = harness.PlaneMaps(set); err != nil {
		return nil, nil, errors.Join(err, set.Close())
	}
	return set, raw, nil
}

// half gives out as many ids as half of the slots.
func half(t *maps.Sessions) (ids []maps.ID, slots []uint32, err error) {
	ids, slots = make([]maps.ID, t.Capacity()/2), make([]uint32, t.Capacity()/2)
	for i := range ids {
		if ids[i], slots[i], err = t.Allocate(maps.KindROAM, 0); err != nil {
			return nil, nil, err
		}
	}
	return ids, slots, nil
}

func writes(ctx context.Context, o Options, r *report.Results) (err error) {
	set, raw, err := create(o.Slots)
	if err != nil {
		return err
	}
	defer func() {
		harness.CloseMaps(raw)
		err = errors.Join(err, set.Close())
	}()
	info, err := raw["slots"].Info()
	if err != nil {
		return err
	}
	memory, known := info.Memlock()
	if !known {
		return errors.New("the kernel does not say how much memory the table takes")
	}
	// In whole bytes: the map has a header, once.
	r.Add(report.AtMost(18, "kernel memory per id", "B", []float64{float64(memory / uint64(o.Slots))}, slotSize))
	// An id is at hand when its slot is written, and its slot is anywhere: so the
	// order is that in which the ids were drawn.
	ids, slots, err := half(set.Sessions)
	if err != nil {
		return err
	}
	write := func(one func(i int) error) func() (float64, error) {
		first := 0
		return func() (float64, error) {
			start := time.Now()
			for i := range o.Writes {
				if err := one((first + i) & (len(ids) - 1)); err != nil { // as many as half of a power of two
					return 0, err
				}
			}
			first += o.Writes
			return float64(time.Since(start)) / float64(o.Writes), nil
		}
	}
	// The peer has a map of its own: what it writes is nothing that anyone reads.
	peer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: slotSize, MaxEntries: uint32(o.Slots)})
	if err != nil {
		return err
	}
	defer peer.Close()
	value := make([]byte, slotSize)
	runs, err := report.Alternate(ctx, o.Pairs,
		// A path is committed for a packet of a batch whose slots were all touched
		// before the first of them was looked at.
		write(func(i int) error {
			if i%batch == 0 {
				for k := range ids[i : i+batch] {
					set.Sessions.Touch(&ids[i+k])
				}
			}
			return set.Sessions.Commit(ids[i], address(i))
		}),
		write(func(i int) error {
			return peer.Update(unsafe.Pointer(&slots[i]), unsafe.Pointer(&value[0]), 0)
		}),
		write(func(i int) error { return set.Sessions.Commit(ids[i], address(i)) }))
	if err != nil {
		return err
	}
	r.Add(report.AtLeast(13, "writing a slot, "+size(o.Slots)+" slots", "x", report.Ratios(runs[1], runs[0]), 12).
		Against("Map.Update", "ns", runs[1], runs[0]))
	r.AddAside(report.Beside(13, "the same, one write after another, no slot in a cache", "x", report.Ratios(runs[1], runs[2])).
		Against("Map.Update", "ns", runs[1], runs[2]))
	return nil
}

// batch is how many packets a worker takes at a time.
const batch = 64

// address is a client's.
func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 40000)
}

func scans(ctx context.Context, o Options, r *report.Results) (err error) {
	set, raw, err := create(o.Scan)
	if err != nil {
		return err
	}
	defer func() {
		harness.CloseMaps(raw)
		err = errors.Join(err, set.Close())
	}()
	measure := func(what string) (lookups, scans []float64, err error) {
		live := int(set.Sessions.Len())
		runs, err := report.Alternate(ctx, o.Pairs,
			func() (float64, error) { return scan(set.Sessions, live) },
			func() (float64, error) { return batchLookup(raw["slots"]) })
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", what, err)
		}
		return runs[1], runs[0], nil
	}
	lookups, empty, err := measure("an empty table")
	if err != nil {
		return err
	}
	r.AddAside(report.Beside(13, "scanning "+size(o.Scan)+" slots, none of them live", "x", report.Ratios(lookups, empty)).
		Against("BatchLookup", "ms", lookups, empty))
	ids, _, err := half(set.Sessions)
	if err != nil {
		return err
	}
	for i := range ids {
		if err := set.Sessions.Commit(ids[i], address(i)); err != nil {
			return err
		}
	}
	lookups, filled, err := measure("a table half full")
	if err != nil {
		return err
	}
	r.Add(report.AtLeast(13, "scanning "+size(o.Scan)+" slots, half of them live", "x", report.Ratios(lookups, filled), 50).
		Against("BatchLookup", "ms", lookups, filled))
	return nil
}

func size(n int) string { return fmt.Sprintf("%d M", n>>20) }

// scan returns ms.
func scan(t *maps.Sessions, want int) (float64, error) {
	start, live := time.Now(), 0
	t.Scan(func(slots []maps.SlotInfo) bool {
		for i := range slots {
			if slots[i].Kind == maps.KindROAM {
				live++
			}
		}
		return true
	})
	if live != want {
		return 0, fmt.Errorf("the scan found %d sessions of %d", live, want)
	}
	return milliseconds(start), nil
}

// batchLookup reads the same memory by the system call that was made for it, ms.
func batchLookup(m *ebpf.Map) (float64, error) {
	const batch = 1 << 16
	keys, values := make([]uint32, batch), make([][slotSize]byte, batch)
	start, total := time.Now(), 0
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		total += n
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("BatchLookup: %w", err)
		}
	}
	if total != int(m.MaxEntries()) {
		return 0, fmt.Errorf("BatchLookup found %d of %d", total, m.MaxEntries())
	}
	return milliseconds(start), nil
}

func milliseconds(since time.Time) float64 { return time.Since(since).Seconds() * 1e3 }

// load returns how many seconds it takes to give out ids.
func load(ids int) (seconds float64, err error) {
	set, raw, err := create(2 * ids)
	if err != nil {
		return 0, err
	}
	defer func() {
		harness.CloseMaps(raw)
		err = errors.Join(err, set.Close())
	}()
	start := time.Now()
	for range ids {
		if _, _, err := set.Sessions.Allocate(maps.KindROAM, 0); err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds(), nil
}
