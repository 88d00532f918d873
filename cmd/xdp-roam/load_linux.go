// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/loader"
)

// attachmentItem is one interface as `load` and `status` print it.
type attachmentItem struct {
	Interface string `json:"interface"`
	Driver    string `json:"driver"`
	// Mode is xdp (native), generic, or socket where nothing is attached.
	Mode    string `json:"mode"`
	Reason  string `json:"reason,omitempty"`
	Program uint32 `json:"program_id,omitempty"`
	// Degraded says why the attachment is not as it should be.
	Degraded string `json:"degraded,omitempty"`
}

func attachmentItems(list []loader.Attachment) []attachmentItem {
	var items []attachmentItem
	for _, a := range list {
		items = append(items, attachmentItem{
			Interface: a.Interface, Driver: a.Driver, Mode: string(a.Mode), Reason: a.Reason, Program: a.Program, Degraded: a.Degraded,
		})
	}
	return items
}

func showAttachments(e *env, items []attachmentItem) error {
	return show(e, "Attachment", items, []column[attachmentItem]{
		{name: "interface", value: func(a attachmentItem) string { return a.Interface }},
		{name: "driver", value: func(a attachmentItem) string { return a.Driver }},
		{name: "mode", value: func(a attachmentItem) string { return a.Mode }},
		{name: "program", value: func(a attachmentItem) string {
			if a.Program == 0 {
				return ""
			}
			return fmt.Sprint(a.Program)
		}},
		{name: "state", value: func(a attachmentItem) string {
			if a.Degraded != "" {
				return e.red(e.stdout, "degraded: "+a.Degraded)
			}
			return "ok"
		}},
		{name: "reason", value: func(a attachmentItem) string { return a.Reason }},
	})
}

func newLoadCommand(e *env) *cobra.Command {
	var (
		mode   string
		dryRun bool
		slots  uint32
	)
	c := &cobra.Command{
		Use: "load IFACE...",
		Example: `  xdp-roam load eth0 eth1
  xdp-roam load --dry-run eth0`,
		Short: "Load and attach the data plane until unload",
		Long: `load creates and pins the maps of an instance and attaches the XDP program to the
interfaces. Until "run" uses it, it passes all packets. It stays in place when "run"
ends, until "unload" removes it. Loading again replaces the program without losing a
packet.`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, interfaces []string) error {
			switch mode {
			case "auto", "native", "generic":
			default:
				return usage("--mode %q: write auto, native or generic", mode)
			}
			parsed, err := loader.ParseMode(mode)
			if err != nil {
				return err
			}
			options := e.loaderOptions()
			options.Slots = slots
			if dryRun {
				return e.planLoad(options, interfaces, parsed)
			}
			return e.load(options, interfaces, parsed)
		},
	}
	f := c.Flags()
	f.StringVar(&mode, "mode", "auto", "`MODE`: auto, native (in the driver) or generic (in the stack, slower)")
	f.BoolVar(&dryRun, "dry-run", false, "check everything and say what would be done, but change nothing")
	f.Uint32Var(&slots, "table-slots", 0, "`N` slots in the session table, a power of two (default: as pinned, else 1048576)")
	return c
}

// planItem is what `load --dry-run` prints as JSON.
type planItem struct {
	Steps       []string         `json:"steps"`
	Attachments []attachmentItem `json:"attachments"`
	Warnings    []string         `json:"warnings"`
}

func (e *env) planLoad(options loader.Options, interfaces []string, mode loader.Mode) error {
	plan, err := loader.MakePlan(options, interfaces, mode)
	if err != nil {
		return err
	}
	if e.format.isJSON() {
		item := planItem{Steps: plan.Steps, Attachments: attachmentItems(plan.Attachments), Warnings: append([]string{}, plan.Warnings...)}
		return writeJSON(e.stdout, e.format, "Plan", []planItem{item})
	}
	e.warn(plan.Warnings)
	for i, step := range plan.Steps {
		fmt.Fprintf(e.stdout, "%d. %s\n", i+1, step)
	}
	return nil
}

func (e *env) load(options loader.Options, interfaces []string, mode loader.Mode) error {
	attachments, warnings, err := loader.Load(options, interfaces, mode)
	if err != nil {
		return err
	}
	e.warn(warnings)
	return showAttachments(e, attachmentItems(attachments))
}

func (e *env) warn(warnings []string) {
	for _, warning := range warnings {
		fmt.Fprintln(e.stderr, "warning:", warning)
	}
}

func newUnloadCommand(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "unload",
		Short: "Detach the data plane and remove what load pinned",
		Long: `unload detaches the instance's programs from every interface and removes its pins, and
nothing else. It asks for confirmation on a terminal and requires --yes elsewhere,
because the session table is removed with the pins. While a daemon runs the instance,
unload refuses (exit code 6): stop the daemon or use "drain" first; the daemon removes
what it created.`,
		Example: `  xdp-roam unload --yes`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := e.confirmUnload(yes); err != nil {
				return err
			}
			names, err := loader.Unload(e.loaderOptions())
			if err != nil {
				return err
			}
			return showDetached(e, names)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask for confirmation")
	return c
}

// detachedItem is one interface that `unload` freed.
type detachedItem struct {
	Interface string `json:"interface"`
	State     string `json:"state"` // detached
}

func showDetached(e *env, names []string) error {
	items := make([]detachedItem, len(names))
	for i, name := range names {
		items[i] = detachedItem{Interface: name, State: "detached"}
	}
	return show(e, "Detachment", items, []column[detachedItem]{
		{name: "interface", value: func(d detachedItem) string { return d.Interface }},
		{name: "state", value: func(d detachedItem) string { return d.State }},
	})
}

// confirmUnload asks on a terminal, and wants --yes elsewhere: the sessions of
// a daemon that crashed are lost with the maps.
func (e *env) confirmUnload(yes bool) error {
	if yes {
		return nil
	}
	if !isTerminal(e.stdin) {
		return usage("unload removes the session table of instance %q; without a terminal to ask on, add --yes", e.instance)
	}
	fmt.Fprintf(e.stderr, "Remove the data plane and the session table of instance %q? [y/N] ", e.instance)
	answer, _ := bufio.NewReader(e.stdin).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return &fault{what: "nothing was removed"}
	}
	return nil
}
