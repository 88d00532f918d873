// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

func newStatusCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what runs, in which mode and why",
		Long: `status asks the daemon. If none answers, it shows what is pinned and attached. It exits
with 3 if there is neither.`,
		Example: `  xdp-roam status
  xdp-roam status -o json --instance second`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			status, err := control.NewClient(e.controlPath()).Status(c.Context())
			if errors.Is(err, control.ErrNotRunning) {
				return e.statusOfPins(err)
			}
			if err != nil {
				return err
			}
			return showStatus(e, status)
		},
	}
}

// line is one line of a table of settings.
type line struct{ name, value string }

func showLines(e *env, lines []line) error {
	return show(e, "", lines, []column[line]{
		{name: "what", value: func(l line) string { return l.name }},
		{name: "value", value: func(l line) string { return l.value }},
	})
}

func showStatus(e *env, s control.Status) error {
	if e.format.isJSON() {
		return writeJSON(e.stdout, e.format, control.KindStatus, []control.Status{s})
	}
	lines := []line{
		{"instance", s.Instance},
		{"daemon", fmt.Sprintf("pid %d, version %s, started %s", s.PID, s.Version, e.ago(s.Started))},
		{"listen", s.Listen},
		{"public key", s.PublicKey},
	}
	if s.PreviousPublicKey != "" {
		lines = append(lines, line{"previous key", s.PreviousPublicKey})
	}
	if s.Draining {
		value := "ends with the last session"
		if !s.DrainDeadline.IsZero() {
			value += ", at the latest at " + s.DrainDeadline.Format(time.TimeOnly)
		}
		lines = append(lines, line{"draining", value})
	}
	lines = append(lines,
		line{"mode", fmt.Sprintf("%s, because %s", modeText(s), s.ModeReason)},
	)
	for _, i := range s.Interfaces {
		value := i.State
		if i.State == "degraded" {
			value = e.red(e.stdout, value)
		}
		if i.Mode != "" {
			value += ", " + i.Mode
		}
		lines = append(lines, line{"interface " + i.Name, fmt.Sprintf("%s (%s)", value, i.Reason)})
		if i.AFXDP != nil {
			lines = append(lines, line{"AF_XDP " + i.Name, queuesText(i.AFXDP)})
		}
	}
	for _, one := range s.Services {
		lines = append(lines, line{fmt.Sprintf("service %d", one.Port), one.Backend})
	}
	lines = append(lines,
		e.authorizedLine(s.AuthorizedKeys),
		line{"cookie", s.Cookie},
		line{"sessions", fmt.Sprintf("%d, half open %d", s.Sessions, s.HalfOpen)},
		line{"table", fmt.Sprintf("%d of %d ids used (full at %d)", s.TableUsed, s.TableSlots, s.TableSlots/4*3)},
	)
	return showLines(e, lines)
}

// authorizedLine says whom the edge lets in, and whether the file says the same.
func (e *env) authorizedLine(a *control.AuthorizedKeys) line {
	const name = "authorized keys"
	if a == nil {
		return line{name, "anyone"}
	}
	value := fmt.Sprintf("%d, read %s from %s", a.Clients, e.ago(a.Read), a.File)
	if a.Error != "" {
		value += e.red(e.stdout, "; the file is wrong now and not used: "+strings.ReplaceAll(a.Error, "\n", "; "))
	}
	return line{name, value}
}

// pinsItem is the status of an instance without a daemon.
type pinsItem struct {
	Instance    string           `json:"instance"`
	Pins        string           `json:"pins"`
	Schema      uint32           `json:"schema"`
	Owner       int              `json:"owner_pid,omitempty"`
	Attachments []attachmentItem `json:"attachments"`
	TableUsed   uint32           `json:"table_used"`
	TableSlots  uint32           `json:"table_slots"`
}

func (e *env) statusOfPins(noDaemon error) error {
	s, err := loader.ReadStatus(e.loaderOptions())
	if err != nil {
		return withoutDaemon(noDaemon, err)
	}
	if s.Schema != maps.Schema {
		fmt.Fprintf(e.stderr, "the maps have schema %d, this version has %d: drain, then `xdp-roam unload` and load again\n", s.Schema, maps.Schema)
	}
	item := pinsItem{
		Instance: e.instance, Pins: s.Pins, Schema: s.Schema, Owner: s.Owner, TableUsed: s.Live, TableSlots: s.Slots,
		Attachments: append([]attachmentItem{}, attachmentItems(s.Attachments)...),
	}
	if e.format.isJSON() {
		return writeJSON(e.stdout, e.format, "PinnedStatus", []pinsItem{item})
	}
	lines := []line{
		{"instance", item.Instance},
		{"daemon", "none: packets are passed on, no session is served"},
		{"pins", fmt.Sprintf("%s (schema %d)", item.Pins, item.Schema)},
	}
	switch {
	case s.Owner != 0:
		lines[1].value = fmt.Sprintf("pid %d holds the instance but does not answer on %s", s.Owner, e.controlPath())
	case len(s.Listeners) > 0:
		lines[1].value = "none: it has died; what it attached goes on to drop and to answer, no session is served; `xdp-roam run` takes over"
	}
	for _, a := range s.Attachments {
		value := strings.TrimSpace(fmt.Sprintf("attached, %s (driver %s, program %d)", a.Mode, a.Driver, a.Program))
		if a.Degraded != "" {
			value = e.red(e.stdout, "degraded: "+a.Degraded)
		}
		lines = append(lines, line{"interface " + a.Interface, value})
	}
	return showLines(e, append(lines, line{"table", fmt.Sprintf("%d of %d ids used", s.Live, s.Slots)}))
}
