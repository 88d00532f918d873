// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

func newEventsCommand(e *env) *cobra.Command {
	var filter eventFilter
	c := &cobra.Command{
		Use:   "events [--follow]",
		Short: "Show recent moves, refusals and alarms of a running edge",
		Long: `events shows what the daemon remembers, some thousand events per class:
  session  opened, closed                  move    started, committed, refused, reverted
  refusal  a client was not let in         alarm   someone forwards or forges packets
  packet   samples of what the data        edge    keys, addresses, interfaces
           plane drops, answers or finds elsewhere
Frequent events are sampled; the counters (stats) cover all of them.`,
		Example: `  xdp-roam events --follow --kind move,alarm
  xdp-roam events --session 2a5daec7 --since 1h`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			q, err := filter.query(e)
			if err != nil {
				return err
			}
			if q.Follow && !c.Flags().Changed("last") {
				q.Last = 10
			}
			return e.printEvents(c.Context(), q)
		},
	}
	flags := c.Flags()
	flags.BoolVarP(&filter.follow, "follow", "f", false, "continue with new events")
	flags.IntVarP(&filter.last, "last", "n", 0, "only the last `N` events (default all, with --follow 10)")
	flags.StringSliceVar(&filter.kinds, "kind", nil, "only events of this `KIND`: "+strings.Join(control.EventClasses, ", ")+", or by name, such as roam_refused (repeat for more)")
	flags.StringSliceVar(&filter.sessions, "session", nil, "only events of the session with an id that starts with `ID` (repeat for more)")
	flags.StringVar(&filter.since, "since", "", "only events since `WHEN`: 10m (ago), or an RFC 3339 time")
	return c
}

// eventFilter are the flags of events.
type eventFilter struct {
	kinds, sessions []string
	since           string
	last            int
	follow          bool
}

func (f *eventFilter) query(e *env) (control.EventQuery, error) {
	q := control.EventQuery{Kinds: f.kinds, Last: f.last, Follow: f.follow}
	for _, id := range f.sessions {
		q.Sessions = append(q.Sessions, strings.ToLower(id))
	}
	if f.last < 0 {
		return q, usage("--last %d: write how many, or 0 for all", f.last)
	}
	if q.Follow && e.format == formatJSON {
		return q, usage("--follow has no end, and a JSON document has: take -o jsonl")
	}
	var err error
	if q.Since, err = e.since("--since", f.since); err != nil {
		return q, err
	}
	return q, q.Check()
}

// printEvents prints events as they come. One that is interrupted while it follows
// has done what it was asked.
func (e *env) printEvents(ctx context.Context, q control.EventQuery) error {
	p := newPrinter(e, control.KindEvent, e.eventColumns())
	err := control.NewClient(e.controlPath()).Events(ctx, q, func(event control.Event) error {
		if event.Lost > 0 {
			fmt.Fprintf(e.stderr, "missed %d events: they came faster than they were read\n", event.Lost)
		}
		if err := p.print(event); err != nil || !q.Follow {
			return err
		}
		return p.flush()
	})
	switch {
	case q.Follow && canceled(ctx, err):
		return p.flush()
	case err != nil:
		if p.printed > 0 {
			err = errors.Join(err, p.flush())
		}
		return err
	}
	return p.close()
}

func (e *env) eventColumns() []column[control.Event] {
	address := func(a interface {
		IsValid() bool
		String() string
	}) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	return []column[control.Event]{
		{name: "time", width: 12, value: func(v control.Event) string { return v.Time.Local().Format("15:04:05.000") }},
		{name: "class", width: 7, value: func(v control.Event) string { return v.Class }},
		{name: "event", width: 16, value: func(v control.Event) string { return v.Name }},
		{name: "session", width: 12, value: func(v control.Event) string {
			if v.Session.IsZero() {
				return ""
			}
			return e.sessionID(v.Session)
		}},
		{name: "peer", width: 12, value: func(v control.Event) string {
			if v.PeerKey.IsZero() {
				return ""
			}
			return cmp.Or(v.PeerName, e.shortID(v.PeerKey.String()))
		}},
		{name: "remote", width: 21, value: func(v control.Event) string { return address(v.Remote) }},
		{name: "from", width: 21, value: func(v control.Event) string { return address(v.From) }},
		{name: "reason", value: func(v control.Event) string { return v.Reason }},
		{name: "date", value: func(v control.Event) string { return v.Time.Local().Format(time.DateOnly) }, wide: true},
		{name: "service", value: func(v control.Event) string { return nonZero(int(v.Service)) }, wide: true},
		{name: "worker", value: func(v control.Event) string { return strconv.Itoa(v.Worker) }, wide: true},
		{name: "stage", value: func(v control.Event) string { return v.Stage }, wide: true},
		{name: "id", value: func(v control.Event) string {
			if v.ID.IsZero() {
				return ""
			}
			return v.ID.String()
		}, wide: true},
		{name: "to", value: func(v control.Event) string { return address(v.Local) }, wide: true},
		{name: "bytes", value: func(v control.Event) string { return nonZero(v.Bytes) }, wide: true},
	}
}

func nonZero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
