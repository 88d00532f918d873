// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/cilium/ebpf"
)

// Counters are the data plane's exact packet counters. They are read through
// the mapping: no system call, at any rate that pleases.
type Counters struct {
	cpus []cpuBlock
}

// Snapshot is the sum of all CPUs' counters, each packet once for each stage
// that it met. CPUs go on counting while it is taken.
type Snapshot struct {
	Packets    [stageCount][reasonCount]uint64
	EventsLost uint64 // events that did not fit into the ring buffer
	TracesLost uint64 // packets of traced sessions over their rate, or that did not fit
}

// Read sums the counters over all CPUs.
func (c *Counters) Read() Snapshot {
	var s Snapshot
	for i := range c.cpus {
		cpu := &c.cpus[i]
		for stage := range cpu.Packets {
			for reason := range cpu.Packets[stage] {
				s.Packets[stage][reason] += atomic.LoadUint64(&cpu.Packets[stage][reason])
			}
		}
		s.EventsLost += atomic.LoadUint64(&cpu.EventsLost)
		s.TracesLost += atomic.LoadUint64(&cpu.TracesLost)
	}
	runtime.KeepAlive(c)
	return s
}

// limit drops the blocks of CPUs that this machine cannot have.
func (c *Counters) limit() error {
	possible, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("counting the possible CPUs: %w", err)
	}
	if possible > len(c.cpus) {
		return fmt.Errorf("this machine can have %d CPUs, the data plane counts on %d at most", possible, len(c.cpus))
	}
	c.cpus = c.cpus[:possible]
	return nil
}

// Sub returns what was counted since an earlier snapshot.
func (s Snapshot) Sub(earlier Snapshot) Snapshot {
	for stage := range s.Packets {
		for reason := range s.Packets[stage] {
			s.Packets[stage][reason] -= earlier.Packets[stage][reason]
		}
	}
	s.EventsLost -= earlier.EventsLost
	s.TracesLost -= earlier.TracesLost
	return s
}

// Count is one counter with what it says.
type Count struct {
	Stage   Stage
	Reason  Reason
	Verdict Verdict
	Packets uint64
}

// Counts returns every counter that is not zero, by stage and reason. Numbers
// of a newer data plane's reasons are among them, without a name.
func (s *Snapshot) Counts() []Count {
	var counts []Count
	for stage := range s.Packets {
		for reason, n := range s.Packets[stage] {
			if n != 0 {
				r := Reason(reason)
				counts = append(counts, Count{Stage(stage), r, r.Verdict(Stage(stage)), n})
			}
		}
	}
	return counts
}
