// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

const (
	// topDrops and topWorkers are how many of each a screen shows.
	topDrops   = 6
	topWorkers = 8
)

// topPage writes a look at the daemon: as many sessions as it has.
func topPage(e *env, now topSample, r topRates, order string) string {
	s := now.status
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	state := ""
	if s.Draining {
		state = ", draining"
	}
	line("%s  instance %s, up %s, mode %s%s", e.now().Format(time.TimeOnly), s.Instance, age(e.now().Sub(s.Started)), modeText(s), state)
	event := func(name string) string { return rate(r.EventsPerSecond[name]) }
	line("sessions      %d (+%s/s, -%s/s), half open %d, table %s", s.Sessions, event("sessions_opened"), event("sessions_closed"),
		s.HalfOpen, share(float64(s.TableUsed), float64(s.TableSlots)))
	line("packets/s     xdp %s, socket %s, server %s; answered %s", rate(r.PacketsPerSecond["xdp"]), rate(r.PacketsPerSecond["socket"]),
		rate(r.PacketsPerSecond["server"]), rate(r.Answers))
	line("roams/s       started %s, committed %s, refused %s, reverted %s; alarms %s", event("roams_started"), event("roams_committed"),
		event("roams_refused"), event("roams_reverted"), event("forwarding_alarms"))
	refused := 0.0
	for name, n := range r.EventsPerSecond {
		if strings.HasPrefix(name, "refused_") {
			refused += n
		}
	}
	line("handshakes/s  opened %s, refused %s, expired %s", event("sessions_opened"), rate(refused), event("half_open_expired"))
	line("")
	screen := *e
	screen.stdout, screen.format = &b, formatTable
	// A buffer takes everything: the errors are none.
	_ = show(&screen, "", r.Drops[:min(len(r.Drops), topDrops)], []column[rateItem]{
		{name: "drops by", width: 8, value: func(d rateItem) string { return d.Stage }},
		{name: "reason", width: 20, value: func(d rateItem) string { return d.Reason }},
		{name: "per second", value: func(d rateItem) string { return rate(d.PerSecond) }},
		{name: "in all", value: func(d rateItem) string { return fmt.Sprint(d.Value) }},
	})
	line("")
	_ = show(&screen, "", r.Workers[:min(len(r.Workers), topWorkers)], []column[workerRate]{
		{name: "worker", width: 8, value: func(w workerRate) string { return fmt.Sprint(w.Worker) }},
		{name: "packets/s", width: 10, value: func(w workerRate) string { return rate(w.PerSecond) }},
		{name: "dropped/s", width: 10, value: func(w workerRate) string { return rate(w.Dropped) }},
		{name: "share", value: func(w workerRate) string { return share(w.Share, 1) }},
	})
	line("")
	line("sessions by %s", order)
	p := newPrinter(&screen, control.KindSession, screen.sessionColumns())
	for i := range now.sessions {
		_ = p.print(&now.sessions[i])
	}
	_ = p.close()
	return b.String()
}

// share writes a part in per cent.
func share(part, whole float64) string {
	if whole == 0 {
		return "0%"
	}
	return fmt.Sprintf("%.0f%%", 100*part/whole)
}
