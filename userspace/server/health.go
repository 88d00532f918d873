// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// ErrStuck is wrapped by the error that Check returns for a server that no longer makes
// progress.
var ErrStuck = errors.New("the server is stuck")

// work is what a goroutine of the server is at: one piece after the other, each over
// in milliseconds. One that lasts for seconds never ends: a lock that is held for
// ever, a loop, a socket that only fails.
type work struct {
	since atomic.Int64 // nanoseconds on the server's clock, plus one; 0: it waits for work
}

func (w *work) begin(now session.Time) { w.since.Store(int64(now) + 1) }

func (w *work) end() { w.since.Store(0) }

// lasts returns for how long the present piece has been in hand; 0 where there is none.
func (w *work) lasts(now session.Time) time.Duration {
	since := w.since.Load()
	if since == 0 {
		return 0
	}
	return now - time.Duration(since-1)
}

// Check returns an error that wraps ErrStuck and names who, if a reader, a timekeeper,
// a handshaker, the janitor or the readdresser has been at one piece of work, or its socket has
// failed, for longer than limit. One that waits for work is well. It takes no lock
// that a session's work is done under. After Close it means nothing.
func (srv *Server) Check(limit time.Duration) error {
	now := srv.clock.now()
	var stuck []string
	look := func(w *work, format string, args ...any) {
		if d := w.lasts(now); d > limit {
			stuck = append(stuck, fmt.Sprintf("%s for %v", fmt.Sprintf(format, args...), d.Round(time.Millisecond)))
		}
	}
	for _, r := range srv.readers {
		look(&r.work, "the %v reader of worker %d", r.lane, r.worker.index)
	}
	for _, w := range srv.workers {
		look(&w.work, "the timekeeper of worker %d", w.index)
	}
	for i, h := range srv.handshakers {
		look(&h.work, "handshaker %d", i)
	}
	look(&srv.janitor, "the janitor")
	look(&srv.readdress.work, "the readdresser")
	srv.queues.mu.Lock()
	for r := range srv.queues.open {
		look(&r.work, "a queue's reader of worker %d", r.worker.index)
	}
	srv.queues.mu.Unlock()
	if len(stuck) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrStuck, strings.Join(stuck, ", "))
}
