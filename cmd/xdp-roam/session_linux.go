// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

func newSessionCommand(e *env) *cobra.Command {
	return group("session", "The sessions of a running edge", newSessionListCommand(e))
}

func newSessionListCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Every session: who, which service, from where, how often it moved",
		Long: `list asks the daemon for its sessions. Where no daemon answers but the maps of
the instance are pinned, it shows the ids in the session table instead, of which
a session has several, and says so on stderr.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			sessions, err := control.NewClient(e.controlPath()).Sessions(c.Context())
			if errors.Is(err, control.ErrNotRunning) {
				return e.listSlots(err)
			}
			if err != nil {
				return err
			}
			slices.SortFunc(sessions, func(a, b control.Session) int {
				return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
			})
			return showSessions(e, sessions)
		},
	}
}

// listSlots is what can be known of sessions without their daemon.
func (e *env) listSlots(noDaemon error) error {
	set, err := e.openMaps()
	if err != nil {
		return withoutDaemon(noDaemon, err)
	}
	defer set.Close()
	fmt.Fprintf(e.stderr, "%v: showing the ids in the pinned session table, several for each session\n", noDaemon)
	return showSlots(e, slotItems(set))
}

// withoutDaemon joins why the daemon and why the pinned maps could not be asked.
func withoutDaemon(noDaemon, noMaps error) error {
	code := exitCode(noMaps)
	if code == exitUnsupported {
		code = exitNotLoaded // no BPF file system: so nothing is pinned in it
	}
	return &fault{
		code: code, what: fmt.Sprintf("%v, and %v", noDaemon, noMaps),
		fix: "start it with `xdp-roam run`; --instance and --control name another one",
	}
}

func showSessions(e *env, sessions []control.Session) error {
	return show(e, control.KindSession, sessions, []column[control.Session]{
		{name: "id", value: func(s control.Session) string { return e.shortID(s.ID) }},
		{name: "peer", value: func(s control.Session) string { return cmp.Or(s.PeerName, e.shortID(s.PeerKey)) }},
		{name: "service", value: func(s control.Session) string { return fmt.Sprint(s.Service) }},
		{name: "remote", value: func(s control.Session) string { return s.Remote }},
		{name: "candidates", value: func(s control.Session) string { return strings.Join(s.Candidates, ",") }},
		{name: "moves", value: func(s control.Session) string { return fmt.Sprint(s.Moves) }},
		{name: "last move", value: func(s control.Session) string { return e.ago(s.LastMove) }},
		{name: "rtt", value: func(s control.Session) string { return roundTrip(s.RTT) }},
		{name: "last heard", value: func(s control.Session) string { return e.ago(s.LastReceived) }},
		{name: "started", value: func(s control.Session) string { return e.ago(s.Started) }},
		{name: "state", value: func(s control.Session) string { return s.State }, wide: true},
		{name: "local", value: func(s control.Session) string { return s.Local }, wide: true},
		{name: "peer key", value: func(s control.Session) string { return s.PeerKey }, wide: true},
		{name: "refused", value: func(s control.Session) string { return fmt.Sprint(s.MovesRefused) }, wide: true},
		{name: "alarms", value: func(s control.Session) string { return fmt.Sprint(s.ForwardingAlarms) }, wide: true},
		{name: "received", value: func(s control.Session) string {
			return fmt.Sprintf("%d/%s", s.PacketsReceived, size(s.BytesReceived))
		}, wide: true},
		{name: "sent", value: func(s control.Session) string { return fmt.Sprintf("%d/%s", s.PacketsSent, size(s.BytesSent)) }, wide: true},
	})
}

// roundTrip writes a round-trip time for people; 0 is none measured yet.
func roundTrip(nanoseconds int64) string {
	d := time.Duration(nanoseconds)
	switch {
	case d == 0:
		return ""
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
