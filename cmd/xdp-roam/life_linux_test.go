// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// Sessions do not notice that the program under them is exchanged.
func TestUpgradeUnderSessions(t *testing.T) {
	b := newLabBench(t)
	if code, _, stderr := b.run("upgrade"); code != exitNotLoaded || !strings.Contains(stderr, "xdp-roam load") {
		t.Errorf("upgrade of nothing: exit code %d\n%s", code, stderr)
	}
	edge, _, program := b.startEcho("--mode", "xdp", "--interface", "edge0")
	before := items[control.Session](b, "session", "list")
	var last uint32
	for n := range 3 {
		report := items[upgradedItem](b, "upgrade")
		if len(report) != 1 || report[0].Interface != "edge0" || report[0].State != "exchanged" || report[0].After == report[0].Before || n > 0 && report[0].Before != last {
			t.Fatalf("upgrade %d: %+v", n, report)
		}
		last = report[0].After
		ask(t, program, fmt.Sprintf("after upgrade %d", n))
	}
	after := items[control.Session](b, "session", "list")
	if len(before) != 1 || len(after) != 1 || after[0].ID != before[0].ID || after[0].Moves != 0 {
		t.Errorf("sessions before: %+v\nafter: %+v", before, after)
	}
	code, stdout, stderr := b.run("upgrade")
	words := strings.Fields(stdout) // columns are as wide as programs' ids are long
	if code != exitOK || stderr != "" || len(words) < 6 || !slices.Equal(words[:6], []string{"INTERFACE", "BEFORE", "AFTER", "STATE", "REASON", "edge0"}) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	ask(t, program, "after all of them")
	if taken := items[control.Event](b, "events", "--kind", "socket_program_exchanged"); len(taken) != 4 {
		t.Errorf("the daemon has taken a program for its sockets: %+v, want 4 times", taken)
	}
	if left := b.pinned(); slices.ContainsFunc(left, func(path string) bool { return strings.HasSuffix(path, "roam_socket") }) {
		t.Errorf("pinned after it: %q", left)
	}
	// One that cannot be asked keeps its own.
	code, _, stderr = b.run("upgrade", "--control", b.path("none.sock"))
	if want := fmt.Sprintf("warning: the daemon (pid %d) keeps its own program at its sockets until it is started anew: no daemon is running", edge.cmd.Process.Pid); code != exitOK || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// Instances on one machine keep to their own interfaces.
func TestTwoInstances(t *testing.T) {
	b := newLabBench(t)
	err := lab.Connect(
		lab.Port{NS: b.edge, Link: "edge1", Addrs: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}},
		lab.Port{NS: b.client, Link: "client1", Addrs: []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24")}},
	)
	if err != nil {
		t.Fatal(err)
	}
	load := func(instance, iface string) uint32 {
		t.Helper()
		return items[attachmentItem](b, "--instance", instance, "load", iface, "--table-slots", "64")[0].Program
	}
	status := func(instance string) pinsItem {
		t.Helper()
		return items[pinsItem](b, "--instance", instance, "status")[0]
	}
	one, two := load("one", "edge0"), load("two", "edge1")
	code, _, stderr := b.run("--instance", "three", "load", "edge0")
	if code != exitConflict || !strings.Contains(stderr, fmt.Sprintf("another instance's roam_xdp (id %d) is attached", one)) {
		t.Errorf("a third instance on edge0: exit code %d\n%s", code, stderr)
	}
	if report := items[upgradedItem](b, "--instance", "two", "upgrade"); len(report) != 1 || report[0].Interface != "edge1" || report[0].Before != two {
		t.Errorf("upgrade of one instance: %+v", report)
	}
	if s := status("one"); len(s.Attachments) != 1 || s.Attachments[0].Program != one {
		t.Errorf("the other after the upgrade: %+v", s)
	}
	if gone := items[detachedItem](b, "--instance", "one", "unload", "--yes"); len(gone) != 1 || gone[0].Interface != "edge0" {
		t.Errorf("unload of one instance: %+v", gone)
	}
	if s := status("two"); len(s.Attachments) != 1 || s.Attachments[0].Degraded != "" || s.Attachments[0].Program == two {
		t.Errorf("the other after the unload: %+v", s)
	}
	if gone := items[detachedItem](b, "--instance", "two", "unload", "--yes"); len(gone) != 1 {
		t.Errorf("unload of the other: %+v", gone)
	}
	b.nothingLeft()
}

// doctor tells what is amiss by its exit code, and in every form of output.
func TestDoctor(t *testing.T) {
	b := newLabBench(t)
	code, stdout, stderr := b.run("doctor", "edge0")
	// A veth has no ring for what XDP sends unless its other end runs XDP too.
	if code != exitFailure || !strings.Contains(stderr, "doctor found 0 failures and ") || !strings.HasPrefix(stdout, "SEVERITY  CHECK") ||
		!strings.Contains(stdout, "\nwarn: xdp edge0\n  what: RETRY may not reach clients\n  why:  edge0 is a veth") || !strings.Contains(stdout, "  fix:  `xdp-roam load --mode generic edge0`\n") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	b.nothingLeft()
	b.startEdge("--mode", "xdp", "--interface", "edge0")
	_, stdout, _ = b.run("doctor", "-o", "wide")
	for _, want := range []string{"this instance's roam_xdp (id ", "is the daemon's of this instance", "WHY", "FIX"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("under a daemon it does not say %q:\n%s", want, stdout)
		}
	}
	for name, test := range map[string]struct {
		args    []string
		code    int
		finding findingItem
	}{
		"another instance":  {[]string{"--instance", "other", "--listen", ":7627"}, exitConflict, findingItem{Severity: "fail", Check: "program", Interface: "edge0"}},
		"the port":          {[]string{"--instance", "other", "client0"}, exitConflict, findingItem{Severity: "fail", Check: "port"}},
		"no BPF files":      {[]string{"--bpffs", "/proc", "--listen", ":7627", "lo"}, exitUnsupported, findingItem{Severity: "fail", Check: "bpffs"}},
		"no such interface": {[]string{"nosuch0"}, exitUnsupported, findingItem{Severity: "fail", Check: "interface", Interface: "nosuch0"}},
	} {
		code, stdout, stderr := b.run(append([]string{"doctor", "-o", "json"}, test.args...)...)
		var document control.Document[findingItem]
		if err := json.Unmarshal([]byte(stdout), &document); err != nil || document.Kind != "Finding" {
			t.Errorf("%s: %v\n%s", name, err, stdout)
		}
		found := slices.ContainsFunc(document.Items, func(f findingItem) bool {
			return f.Severity == test.finding.Severity && f.Check == test.finding.Check && f.Interface == test.finding.Interface && f.Why != "" && f.Fix != ""
		})
		if code != test.code || !found || !strings.Contains(stderr, fmt.Sprintf(`"exit_code": %d`, test.code)) {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, test.code, stdout, stderr)
		}
	}
}
