// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func newSessionGetCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "get ID",
		Short: "Show one session in detail",
		Long: `get shows one session: its ids, paths, moves and counters. ID is the beginning of one of
its ids, long enough to be unique. Without a daemon, get shows the matching ids in the
pinned session table.`,
		Example: `  xdp-roam session get 2a5d
  xdp-roam session get 2a5daec799e0 -o json`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			id := strings.ToLower(args[0])
			details, err := control.NewClient(e.controlPath()).Details(c.Context(), id)
			if errors.Is(err, control.ErrNotRunning) {
				return e.listSlots(err, &control.SessionQuery{IDs: []string{id}, Sort: "started"})
			}
			if err != nil {
				return err
			}
			var found []wire.ID
			for _, d := range details {
				found = append(found, d.ID)
			}
			if err := e.one(id, found); err != nil {
				return err
			}
			return e.showDetail(details[0])
		},
	}
}

// one returns an error unless exactly one session was found by the beginning of an id.
func (e *env) one(id string, found []wire.ID) error {
	switch len(found) {
	case 0:
		return &fault{what: fmt.Sprintf("no session has an id that starts with %s", id), fix: "`xdp-roam session list` shows the existing ones"}
	case 1:
		return nil
	}
	var texts []string
	for _, f := range found {
		texts = append(texts, f.String())
	}
	return &fault{
		code: exitUsage, what: fmt.Sprintf("%s is ambiguous: it matches ids of %s", id, strings.Join(texts, ", ")),
		fix: "give more characters of the id",
	}
}

func (e *env) showDetail(d control.Detail) error {
	if e.format.isJSON() {
		return writeJSON(e.stdout, e.format, control.KindSession, []control.Detail{d})
	}
	count := func(n uint64, last time.Time) string {
		if last.IsZero() {
			return fmt.Sprint(n)
		}
		return fmt.Sprintf("%d, the last %s", n, e.ago(last))
	}
	direction := func(packets, bytes, datagrams uint64, last time.Time) string {
		return fmt.Sprintf("%d packets, %s, %d datagrams, the last %s", packets, size(bytes), datagrams, e.ago(last))
	}
	lines := []line{
		{"session", d.ID.String()},
		{"peer", strings.TrimSpace(d.PeerName + " " + d.PeerKey.String())},
		{"service", fmt.Sprint(d.Service)},
		{"state", fmt.Sprintf("%s, started %s, idle timeout %v", d.State, e.ago(d.Started), time.Duration(d.IdleTimeout))},
		{"worker", fmt.Sprint(d.Owner)},
		{"remote", d.Remote.String()},
		{"local", d.Local.String()},
	}
	for _, a := range d.Candidates {
		lines = append(lines, line{"candidate", a.String()})
	}
	lines = append(lines,
		line{"path", fmt.Sprintf("rtt %s, pto %s, mtu %d, largest datagram %d", roundTripOrNone(d.RTT), roundTrip(d.PTO), d.PathMTU, d.MaxDatagram)},
		line{"moves", count(d.Moves, d.LastMove)},
		line{"moves started", count(d.MovesStarted, d.MoveStarted)},
		line{"moves refused", count(d.MovesRefused, d.MoveRefused)},
		line{"moves reverted", count(d.MovesReverted, d.MoveReverted)},
		line{"forwarding alarms", fmt.Sprint(d.ForwardingAlarms)},
	)
	for _, id := range d.IDs {
		value := id.String()
		if id == d.CurrentID {
			value += " (in use)"
		}
		lines = append(lines, line{"id", value})
	}
	rekeying := ""
	if d.Rekeying {
		rekeying = ", the next one under way"
	}
	lines = append(lines,
		line{"peer's id", fmt.Sprintf("%v, %d to spare", d.PeerID, d.SparePeerIDs)},
		line{"rekeys", fmt.Sprintf("%d%s", d.Epoch, rekeying)},
		line{"received", direction(d.PacketsReceived, d.BytesReceived, d.DatagramsReceived, d.LastReceived)},
		line{"sent", direction(d.PacketsSent, d.BytesSent, d.DatagramsSent, d.LastSent)},
	)
	for _, reason := range slices.Sorted(maps.Keys(d.Packets)) {
		lines = append(lines, line{"packets " + reason, fmt.Sprint(d.Packets[reason])})
	}
	return showLines(e, lines)
}

func roundTripOrNone(nanoseconds int64) string {
	if nanoseconds == 0 {
		return "not measured"
	}
	return roundTrip(nanoseconds)
}
