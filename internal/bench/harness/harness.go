// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package harness runs an XDP program under test again and again over frames that
// differ, as a measurement wants it: by BPF_PROG_TEST_RUN, which only times it, or
// with live frames, which arrive in the kernel as if a network card had brought them.
package harness

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What an XDP program returns: enum xdp_action of linux/bpf.h.
const (
	Drop     = 1
	Pass     = 2
	TX       = 3
	Redirect = 4
)

// Programs of a loaded harness.
const (
	Tested     = harnessProgHarness       // around the program under test
	OnlyReturn = harnessProgHarnessReturn // the harness alone: drops
	OnlyShrink = harnessProgHarnessShrink // makes the frame as short as a RETRY and sends it back
	OnlyPass   = harnessProgHarnessPass   // hands the frame to the kernel's stack
	OnlyCPUMap = harnessProgHarnessCpumap // redirects the frame to the CPU that Harness.RedirectTo names
	BareDrop   = harnessProgBareDrop      // drops, without any harness: no verdicts are counted
)

// Harness is loaded around one program.
type Harness struct {
	*ebpf.Collection
	// Ingress is the interface that live frames come in by; 0: the loopback.
	Ingress int
	// Runs is how often a measurement runs the program.
	Runs int

	frame []byte
	xsk   int
}

// Options are how a harness is loaded.
type Options struct {
	Entries map[string]uint32    // sizes of maps, by name
	Shared  map[string]*ebpf.Map // maps in the place of its own
	Runs    int                  // Harness.Runs
}

// Load loads the harness around a program of the collection tested. The caller
// closes it.
func Load(program string, tested *ebpf.CollectionSpec, o Options) (*Harness, error) {
	spec, err := under(program, tested)
	if err != nil {
		return nil, err
	}
	for name, n := range o.Entries {
		spec.Maps[name].MaxEntries = n
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: o.Shared})
	if err != nil {
		return nil, fmt.Errorf("loading the harness around %s: %w", program, err)
	}
	return &Harness{Collection: coll, xsk: -1, Runs: o.Runs}, nil
}

// cpuQueue is how many frames wait for a CPU that they are redirected to: as many as
// a device's ring commonly holds.
const cpuQueue = 2048

// RedirectTo says where OnlyCPUMap redirects frames: to the kernel's stack on a CPU.
func (h *Harness) RedirectTo(cpu int) error {
	// struct bpf_cpumap_val: the queue's length, and no program that runs over there.
	if err := h.Maps["harness_cpus"].Put(uint32(cpu), [2]uint32{cpuQueue}); err != nil {
		return fmt.Errorf("redirecting to CPU %d: %w", cpu, err)
	}
	return h.changeHarness(func(c *harnessHarnessConfig) { c.Cpu = uint32(cpu) })
}

// Close gives everything back.
func (h *Harness) Close() {
	if h.xsk >= 0 {
		unix.Close(h.xsk)
	}
	h.Collection.Close()
}
