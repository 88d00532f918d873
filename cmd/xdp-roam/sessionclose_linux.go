// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func newSessionCloseCommand(e *env) *cobra.Command {
	var filter sessionFilter
	var reason string
	var yes bool
	c := &cobra.Command{
		Use:   "close [ID...]",
		Short: "End sessions and tell their clients why",
		Long: `close ends sessions: those named by ID, the unique beginning of one of a session's ids,
or all that match the flags. Their clients are told the reason and do not reconnect by
themselves. For more than one session it asks for confirmation on a terminal and
requires --yes elsewhere.`,
		Example: `  xdp-roam session close 2a5daec7 --reason "moved to another server"
  xdp-roam session close --peer alice --yes`,
		Args: arguments(cobra.ArbitraryArgs),
		RunE: func(c *cobra.Command, ids []string) error {
			q, err := filter.query(e, ids)
			switch {
			case err != nil:
				return err
			case len(ids) == 0 && filter.empty():
				return usage("which sessions? Name ids, or choose by --service, --peer, --worker or --moved-since")
			case len(ids) > 0 && !filter.empty():
				return usage("ids name sessions by themselves: leave the other flags out")
			case len(reason) > wire.MaxReason:
				return usage("--reason has %d bytes, and a client can be told %d", len(reason), wire.MaxReason)
			}
			client := control.NewClient(e.controlPath())
			sessions, err := e.chosen(c.Context(), client, q)
			if err != nil {
				return err
			}
			if err := e.confirmClose(len(sessions), yes); err != nil {
				return err
			}
			closed, err := client.CloseSessions(c.Context(), sessions, reason)
			if err != nil {
				return err
			}
			return showClosed(e, closed)
		},
	}
	filter.add(c)
	c.Flags().StringVar(&reason, "reason", "closed by the operator", "reason to give to the client: `TEXT`")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask for confirmation")
	return c
}

// chosen finds the sessions that are meant: of ids, each names exactly one.
func (e *env) chosen(ctx context.Context, client *control.Client, q control.SessionQuery) (chosen []wire.ID, err error) {
	if len(q.IDs) == 0 {
		err = client.EachSession(ctx, q, func(s *control.Session) error {
			chosen = append(chosen, s.ID)
			return nil
		})
		if err == nil && len(chosen) == 0 {
			err = &fault{what: "no session matches", fix: "`xdp-roam session list` with the same flags shows which do"}
		}
		return chosen, err
	}
	for _, id := range q.IDs {
		sessions, err := client.Sessions(ctx, control.SessionQuery{IDs: []string{id}, Limit: 10})
		if err != nil {
			return nil, err
		}
		var found []wire.ID
		for _, s := range sessions {
			found = append(found, s.ID)
		}
		if err := e.one(id, found); err != nil {
			return nil, err
		}
		if !slices.Contains(chosen, found[0]) {
			chosen = append(chosen, found[0])
		}
	}
	return chosen, nil
}

// confirmClose asks on a terminal, and wants --yes elsewhere, where several
// sessions would end.
func (e *env) confirmClose(sessions int, yes bool) error {
	if yes || sessions < 2 {
		return nil
	}
	if !isTerminal(e.stdin) {
		return usage("this closes %d sessions; without a terminal to ask on, add --yes", sessions)
	}
	fmt.Fprintf(e.stderr, "Close %d sessions? [y/N] ", sessions)
	answer, _ := bufio.NewReader(e.stdin).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return &fault{what: "nothing was closed"}
	}
	return nil
}

func showClosed(e *env, closed []control.Session) error {
	return show(e, control.KindSession, closed, []column[control.Session]{
		{name: "closed", value: func(s control.Session) string { return e.sessionID(s.ID) }},
		{name: "peer", value: func(s control.Session) string { return e.peer(&s) }},
		{name: "service", value: func(s control.Session) string { return fmt.Sprint(s.Service) }},
		{name: "remote", value: func(s control.Session) string { return s.Remote.String() }},
	})
}
