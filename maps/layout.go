// SPDX-License-Identifier: Apache-2.0

package maps

import "github.com/xdp-roam/xdp-roam/bpf"

// The layouts shared with the data plane. bpf2go derives them from the BTF of
// bpf/types.h; this file only shortens their names, and nothing in Go types
// an offset or a size a second time.
type (
	slot     bpf.RoamRoamSlot
	config   = bpf.RoamRoamConfig
	listener bpf.RoamRoamListener
	cpuBlock = bpf.RoamRoamCpu
	event    = bpf.RoamRoamEvent
	trace    = bpf.RoamRoamTrace
)

// The #defines of bpf/types.h that Go needs: BTF has no macros, so a test
// compares these with the header.
const (
	// Schema is the version of all layouts. Pins of another schema are
	// another program's.
	Schema = 3

	// MaxGroups is the number of groups of sockets, and MaxWorkers of workers in each.
	MaxGroups  = 4
	MaxWorkers = 1024

	maxLanes       = 8
	listenerProbes = 8
)
