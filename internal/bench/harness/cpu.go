// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

import (
	"time"

	"golang.org/x/sys/unix"
)

// ProcessTime is the CPU time of all threads of this process, in the kernel and in
// user space. A thread that injects frames does the kernel's part of receiving them,
// and one that sends over a veth pair does the same for the other end, so this
// holds what interrupts would do with a network card.
func ProcessTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		panic(err) // the clock is in every kernel
	}
	return time.Duration(ts.Nano())
}
