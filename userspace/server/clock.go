// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// clock is the server's only source of time. It never steps: wall time is read
// once, at the start, and everything later is the monotonic clock on top of it,
// as in the data plane.
type clock struct {
	start time.Time
	mono  time.Duration // the system's monotonic clock at start
	base  uint32        // Unix time - seconds of the monotonic clock
}

func newClock() clock {
	c := clock{start: time.Now(), mono: monotonic()}
	c.base = uint32(c.start.Unix() - int64(c.mono/time.Second))
	return c
}

// now returns the time since the start.
func (c *clock) now() session.Time { return time.Since(c.start) }

// unix returns the seconds that cookies carry; XDP computes the same from
// bpf_ktime_get_ns and the base in its config map.
func (c *clock) unix(now session.Time) uint32 {
	return uint32((c.mono+now)/time.Second) + c.base
}

// wall returns the wall time of an instant, for people to read.
func (c *clock) wall(t session.Time) time.Time { return c.start.Add(t).Round(0) }
