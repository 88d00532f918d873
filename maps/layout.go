// SPDX-License-Identifier: Apache-2.0

package maps

import "github.com/xdp-roam/xdp-roam/bpf"

// The layouts shared with the data plane. bpf2go derives them from the BTF of
// bpf/types.h; this file only shortens their names, and nothing in Go types
// an offset or a size a second time.
type (
	slot     bpf.RoamRoamSlot
	config   = bpf.RoamRoamConfig
	listener = bpf.RoamRoamListener
	laneKey  = bpf.RoamRoamLaneKey
	cpuBlock = bpf.RoamRoamCpu
	event    = bpf.RoamRoamEvent
)
