// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

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

// KeepOff keeps all threads that this process has, and those that they will start,
// off a CPU that another thread is to own, until restore is called. With a single CPU
// it does nothing.
func KeepOff(cpu int) (restore func() error, err error) {
	if runtime.NumCPU() == 1 {
		return func() error { return nil }, nil
	}
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("which CPUs are ours: %w", err)
	}
	others := all
	others.Clear(cpu)
	if others.Count() == 0 {
		return func() error { return nil }, nil
	}
	return func() error { return setAll(&all) }, setAll(&others)
}

func setAll(set *unix.CPUSet) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("choosing the CPUs of thread %d: %w", tid, err)
		}
	}
	return nil
}
