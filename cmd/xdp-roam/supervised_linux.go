// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// notify tells the service manager; nobody is told where there is none
// (sd_notify(3): NOTIFY_SOCKET).
func (d *edge) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		d.log.Warn("the service manager cannot be told", "state", state, "error", err)
	}
}

// startSupervision tells the service manager that the edge is ready and, if it
// wants to know (WatchdogSec=), again and again that it is alive.
func (d *edge) startSupervision() {
	d.notify(systemd.SdNotifyReady + "\n" + d.summary())
	limit, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		d.log.Warn("the watchdog is off", "error", err)
	}
	if err != nil || limit == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	end := d.end
	d.end = func() { cancel(); end() }
	d.background.Go(func() { d.feedWatchdog(ctx, limit) })
}

// feedWatchdog says every quarter of limit that the edge is alive, and does not
// when a worker has been at one packet for half of it: then the service manager
// ends the process with SIGABRT, by which Go prints where each goroutine is, and
// starts it anew. Where a lock is held for ever, the summary does not return
// either, with the same result.
func (d *edge) feedWatchdog(ctx context.Context, limit time.Duration) {
	t := time.NewTicker(limit / 4)
	defer t.Stop()
	for {
		if err := d.server.Check(limit / 2); err != nil {
			d.log.Error("the watchdog is not fed", "error", err)
		} else {
			d.notify(systemd.SdNotifyWatchdog + "\n" + d.summary())
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// summary is the line that `systemctl status` shows.
func (d *edge) summary() string {
	s := (*source)(d).Status()
	text := fmt.Sprintf("STATUS=mode %s, %d sessions, %d of %d slots", modeText(s), s.Sessions, s.TableUsed, s.TableSlots)
	if s.Draining {
		text += ", draining"
	}
	return text
}
