// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic returns CLOCK_MONOTONIC, which is Go's and BPF's clock too.
func monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0 // cannot fail for this clock; cookies would only not be shared with XDP
	}
	return time.Duration(ts.Nano())
}
