// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/maps"
)

// PlaneMaps opens the maps of a data plane that a server uses, to run the harness
// over them (Options.Shared). The caller closes them.
func PlaneMaps(set *maps.Set) (map[string]*ebpf.Map, error) {
	list, err := set.List()
	if err != nil {
		return nil, err
	}
	all := map[string]*ebpf.Map{}
	for _, info := range list {
		m, err := ebpf.NewMapFromID(ebpf.MapID(info.ID))
		if err != nil {
			CloseMaps(all)
			return nil, fmt.Errorf("opening the data plane's map %s: %w", info.Name, err)
		}
		all[info.Name] = m
	}
	return all, nil
}

// CloseMaps closes what PlaneMaps has opened.
func CloseMaps(all map[string]*ebpf.Map) {
	for _, m := range all {
		m.Close()
	}
}

// ConfigurePlane is what the control plane would do: one listener, one AF_XDP
// socket, limits out of the way.
func (h *Harness) ConfigurePlane(change func(c *bpf.RoamRoamConfig)) error {
	cfg := bpf.RoamRoamConfig{
		Schema:   maps.Schema,
		SlotMask: h.Maps["slots"].MaxEntries() - 1,
		Limits: bpf.RoamRoamLimits{
			HandshakeRate: 1 << 24, HandshakeBurst: 1 << 24, EventRate: 100, EventBurst: 100,
		},
	}
	cfg.IdKeys[0] = schedule(IDKey)
	if change != nil {
		change(&cfg)
	}
	addr, port := Mapped(Somewhere.Dest.Addr()), NetworkOrder(Somewhere.Dest.Port())
	place := uint32((addr[0] ^ addr[1] ^ uint64(port)) * 0x9e3779b97f4a7c15 >> 56)
	err := errors.Join(
		h.Maps["config"].Put(uint32(0), cfg),
		h.Maps["listeners"].Put(place, bpf.RoamRoamListener{Addr: addr, Port: port}))
	if err != nil || h.xsk >= 0 {
		return err
	}
	if h.xsk, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0); err != nil {
		return fmt.Errorf("AF_XDP socket: %w", err)
	}
	return h.Maps["xsks"].Put(uint32(0), uint32(h.xsk))
}

// reasons are the data plane's counters that are not zero.
func (h *Harness) reasons() map[int]uint64 {
	all := map[int]uint64{}
	for i := range uint32(runtime.NumCPU()) {
		var cpu bpf.RoamRoamCpu
		if err := h.Maps["cpus"].Lookup(i, &cpu); err != nil {
			return nil
		}
		for reason, n := range cpu.Packets[bpf.RoamRoamStageROAM_STAGE_XDP] {
			if n != 0 {
				all[reason] += n
			}
		}
	}
	return all
}
