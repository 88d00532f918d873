// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"time"

	"golang.org/x/sys/unix"
)

// now is the present instant.
func now() Instant {
	var t unix.Timespec
	// Cannot fail with this clock.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return Instant(t.Nano())
}

// instantOf turns a wall clock reading of this machine into an instant; exact as
// long as nobody steps the clock between then and now.
func instantOf(wall time.Time) Instant { return now().Add(-time.Since(wall.Round(0))) }
