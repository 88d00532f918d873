// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/loader/doctor"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/server"
)

func newDoctorCommand(e *env) *cobra.Command {
	var options doctor.Options
	conf := config.Default()
	c := &cobra.Command{
		Use: "doctor [IFACE...]",
		Example: `  xdp-roam doctor eth0
  xdp-roam doctor -o json`,
		Short: "Check this machine and say how to fix what is missing",
		Long: `doctor checks the kernel, the capabilities, the BPF file system, memory limits, the
clock, the port, and each interface: driver, native XDP, AF_XDP, attached programs,
queues, RSS, rings, MTU and offloads. Without names it checks the interfaces that have
a global address. It changes nothing, unless --probe-attach asks it to attach a
program for a moment.

Exit codes: 0 nothing worse than info, 1 a warning, otherwise that of the first
failure: 4 permission, 5 unsupported kernel or NIC, 6 conflict.`,
		RunE: func(c *cobra.Command, interfaces []string) error {
			address, err := conf.Address()
			if err != nil {
				return err
			}
			options.Instance, options.Listen, options.Interfaces = e.loaderOptions(), address, interfaces
			options.Instance.Slots, options.Workers = conf.TableSlots, runtime.GOMAXPROCS(0)
			facts, err := doctor.Collect(options)
			if err != nil {
				return err
			}
			facts.WrongKey = e.wrongKeys(c.Context())
			findings := doctor.Judge(facts)
			if err := showFindings(e, findings); err != nil {
				return err
			}
			return verdict(findings)
		},
	}
	f := c.Flags()
	f.StringVar(&conf.Listen, "listen", conf.Listen, "`ADDR:PORT` on which the edge will listen")
	f.Uint32Var(&conf.TableSlots, "table-slots", conf.TableSlots, "`N` slots that the session table will have")
	f.BoolVar(&options.ProbeAttach, "probe-attach", false, "attach an empty program for a moment to test the driver; some NICs drop packets meanwhile")
	return c
}

// wrongKeys asks the running edge, if there is one, for handshakes under another server's key.
func (e *env) wrongKeys(ctx context.Context) (n uint64) {
	counters, err := control.NewClient(e.controlPath()).Counters(ctx)
	if err != nil {
		return 0
	}
	for _, c := range counters {
		if c.Reason == server.MAC1.String() {
			n += c.Value
		}
	}
	return n
}

// verdict turns the worst finding into the exit code.
func verdict(findings []doctor.Finding) error {
	worst := doctor.Worst(findings)
	if worst == nil || worst.Severity < doctor.Warn {
		return nil
	}
	warnings, failures := 0, 0
	for _, f := range findings {
		switch f.Severity {
		case doctor.Warn:
			warnings++
		case doctor.Fail:
			failures++
		}
	}
	f := &fault{what: fmt.Sprintf("doctor found %s and %s", plural(failures, "failure"), plural(warnings, "warning")), code: exitFailure, fix: worst.Fix}
	if failures > 0 {
		f.code = exitCode(worst.Kind)
	}
	return f
}

// plural returns a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// findingItem is one finding as `doctor` prints it.
type findingItem struct {
	Severity  string `json:"severity"` // ok, info, warn, fail
	Check     string `json:"check"`
	Interface string `json:"interface,omitempty"`
	What      string `json:"what"`
	Why       string `json:"why,omitempty"`
	Fix       string `json:"fix,omitempty"`
}

// showFindings writes the table and, below it, the reasons and remedies of what
// asks for something: they are too long for columns, which -o wide has.
func showFindings(e *env, findings []doctor.Finding) error {
	items := make([]findingItem, len(findings))
	for i, f := range findings {
		items[i] = findingItem{Severity: f.Severity.String(), Check: f.Check, Interface: f.On, What: f.What, Why: f.Why, Fix: f.Fix}
	}
	err := show(e, "Finding", items, []column[findingItem]{
		{name: "severity", value: func(f findingItem) string { return f.Severity }},
		{name: "check", value: func(f findingItem) string { return f.Check }},
		{name: "interface", value: func(f findingItem) string { return f.Interface }},
		{name: "what", value: func(f findingItem) string { return f.What }},
		{name: "why", value: func(f findingItem) string { return f.Why }, wide: true},
		{name: "fix", value: func(f findingItem) string { return f.Fix }, wide: true},
	})
	if err != nil || e.format != formatTable {
		return err
	}
	for _, f := range items {
		if f.Why == "" && f.Fix == "" {
			continue
		}
		fmt.Fprintf(e.stdout, "\n%s\n", strings.TrimSpace(f.Severity+": "+f.Check+" "+f.Interface))
		for _, part := range []line{{"what", f.What}, {"why", f.Why}, {"fix", f.Fix}} {
			if part.value != "" {
				fmt.Fprintf(e.stdout, "  %-5s %s\n", part.name+":", part.value)
			}
		}
	}
	return nil
}
