// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

func newSessionCommand(e *env) *cobra.Command {
	return group("session", "List, inspect and close the sessions of a running edge",
		`A session keeps its id, its counters and its service while the client's address changes.
The beginning of an id is enough to name it, as long as it is unique.`,
		newSessionListCommand(e), newSessionGetCommand(e), newSessionWatchCommand(e), newSessionCloseCommand(e))
}

func newSessionListCommand(e *env) *cobra.Command {
	var filter sessionFilter
	var order string
	var reverse bool
	var limit int
	c := &cobra.Command{
		Use:   "list [ID...]",
		Short: "List sessions: client, service, address, moves",
		Long: `list asks the daemon for its sessions. ID is the beginning of one of a session's ids.
The daemon filters and sorts, so selecting a few out of a million is cheap. If no daemon
answers but the maps of the instance are pinned, list shows the ids in the session table
instead, several per session, and says so on stderr.`,
		Example: `  xdp-roam session list --sort moves --limit 20
  xdp-roam session list --peer alice --moved-since 10m`,
		Args: arguments(cobra.ArbitraryArgs),
		RunE: func(c *cobra.Command, ids []string) error {
			q, err := filter.query(e, ids)
			if err != nil {
				return err
			}
			q.Sort, q.Reverse, q.Limit = order, reverse, limit
			p := newPrinter(e, control.KindSession, e.sessionColumns())
			switch err := control.NewClient(e.controlPath()).EachSession(c.Context(), q, p.print); {
			case errors.Is(err, control.ErrNotRunning) && p.printed == 0:
				return e.listSlots(err, &q)
			case err != nil:
				return errors.Join(err, p.flush())
			}
			return p.close()
		},
	}
	filter.add(c)
	filter.addState(c)
	flags := c.Flags()
	flags.StringVar(&order, "sort", "started", "sort by `KEY`: "+strings.Join(control.SessionSorts, ", ")+" or none")
	flags.BoolVar(&reverse, "reverse", false, "reverse the order")
	flags.IntVar(&limit, "limit", 0, "only the first `N` (default all)")
	return c
}

// listSlots is what can be known of sessions without their daemon.
func (e *env) listSlots(noDaemon error, q *control.SessionQuery) error {
	set, err := e.openMaps()
	if err != nil {
		return withoutDaemon(noDaemon, err)
	}
	defer set.Close()
	if len(q.Peers)+len(q.Services)+len(q.States) > 0 || !q.MovedSince.IsZero() || q.Sort != "started" || q.Reverse {
		return &fault{
			code: exitNotLoaded, err: noDaemon,
			fix: "start it with `xdp-roam run`; the pinned session table has only ids, addresses and workers, so only --worker, --limit and ids can select from it",
		}
	}
	fmt.Fprintf(e.stderr, "%v: showing the ids in the pinned session table, several for each session\n", noDaemon)
	return e.showSlots(set, q)
}

// withoutDaemon joins why the daemon and why the pinned maps could not be asked.
func withoutDaemon(noDaemon, noMaps error) error {
	code := exitCode(noMaps)
	if code == exitUnsupported {
		code = exitNotLoaded // no BPF file system: so nothing is pinned in it
	}
	return &fault{
		code: code, what: fmt.Sprintf("%v, and %v", noDaemon, noMaps),
		fix: startDaemon,
	}
}

func (e *env) sessionColumns() []column[*control.Session] {
	now := e.now() // once: there may be a million lines
	ago := func(t time.Time) string { return since(now, t) }
	return []column[*control.Session]{
		{name: "id", value: func(s *control.Session) string { return e.sessionID(s.ID) }},
		{name: "peer", value: e.peer},
		{name: "service", value: func(s *control.Session) string { return strconv.Itoa(int(s.Service)) }},
		{name: "remote", value: func(s *control.Session) string { return s.Remote.String() }},
		{name: "candidates", value: func(s *control.Session) string { return addresses(s.Candidates) }},
		{name: "moves", value: func(s *control.Session) string { return strconv.FormatUint(s.Moves, 10) }},
		{name: "last move", value: func(s *control.Session) string { return ago(s.LastMove) }},
		{name: "rtt", value: func(s *control.Session) string { return roundTrip(s.RTT) }},
		{name: "last heard", value: func(s *control.Session) string { return ago(s.LastReceived) }},
		{name: "started", value: func(s *control.Session) string { return ago(s.Started) }},
		{name: "state", value: func(s *control.Session) string { return s.State }, wide: true},
		{name: "worker", value: func(s *control.Session) string { return strconv.Itoa(s.Owner) }, wide: true},
		{name: "local", value: func(s *control.Session) string { return s.Local.String() }, wide: true},
		{name: "peer key", value: func(s *control.Session) string { return s.PeerKey.String() }, wide: true},
		{name: "refused", value: func(s *control.Session) string { return strconv.FormatUint(s.MovesRefused, 10) }, wide: true},
		{name: "alarms", value: func(s *control.Session) string { return strconv.FormatUint(s.ForwardingAlarms, 10) }, wide: true},
		{name: "received", value: func(s *control.Session) string { return traffic(s.PacketsReceived, s.BytesReceived) }, wide: true},
		{name: "sent", value: func(s *control.Session) string { return traffic(s.PacketsSent, s.BytesSent) }, wide: true},
	}
}

// peer names the client: by the beginning of its key where it has no name.
func (e *env) peer(s *control.Session) string {
	if s.PeerName != "" {
		return s.PeerName
	}
	return e.shortID(s.PeerKey.String())
}

func addresses(list []netip.AddrPort) string {
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ",")
}

// traffic writes packets and bytes.
func traffic(packets, bytes uint64) string {
	return strconv.FormatUint(packets, 10) + "/" + size(bytes)
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
