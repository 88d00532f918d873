// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// OwnThread gives the calling goroutine a thread of its own on one CPU, before all
// others there, and stops the garbage collector, whose signals interrupt test runs.
// restore undoes it; the thread, whose priority stays, ends with the goroutine.
func OwnThread(cpu int) (restore func(), err error) {
	runtime.LockOSThread() // for good: nobody else is to get this thread
	if err := OwnCPU(cpu); err != nil {
		return nil, err
	}
	percent := debug.SetGCPercent(-1) // there is little to collect
	return func() { debug.SetGCPercent(percent) }, nil
}

// OwnCPU keeps the calling thread on one CPU, before all others there: what else ran
// on it would be counted as the program's time.
func OwnCPU(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("running on CPU %d: %w", cpu, err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20); err != nil {
		return fmt.Errorf("raising the priority: %w", err)
	}
	return nil
}
