// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// enumValues reads an enum of bpf/types.h from the object's BTF: the names
// without prefix in lower case, without the closing _MAX.
func enumValues(t *testing.T, types *btf.Spec, enum, prefix string) map[uint64]string {
	t.Helper()
	var e *btf.Enum
	if err := types.TypeByName(enum, &e); err != nil {
		t.Fatalf("%s: %v", enum, err)
	}
	values := make(map[uint64]string)
	for _, v := range e.Values {
		if name := strings.ToLower(strings.TrimPrefix(v.Name, prefix)); name != "max" {
			values[v.Value] = name
		}
	}
	if len(values) == 0 {
		t.Fatalf("%s has no values", enum)
	}
	return values
}

func TestNamesAreTheDataPlanes(t *testing.T) {
	spec, err := bpf.LoadRoam()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		enum, prefix string
		name         func(uint64) string
	}{
		{"roam_reason", "ROAM_REASON_", func(n uint64) string { return Reason(n).String() }},
		{"roam_verdict", "ROAM_VERDICT_", func(n uint64) string { return Verdict(n).String() }},
		{"roam_stage", "ROAM_STAGE_", func(n uint64) string { return Stage(n).String() }},
		{"roam_lane", "ROAM_LANE_", func(n uint64) string { return Lane(n).String() }},
		{"roam_kind", "ROAM_KIND_", func(n uint64) string { return Kind(n).String() }},
		{"roam_slot_flag", "ROAM_SLOT_", func(n uint64) string { return Flags(n).String() }},
		{"roam_cookie_policy", "ROAM_COOKIE_", func(n uint64) string { return CookiePolicy(n).String() }},
	} {
		want := enumValues(t, spec.Types, test.enum, test.prefix)
		for n := range uint64(256) {
			got := test.name(n)
			name, inC := want[n]
			if inC && got != name {
				t.Errorf("%s %d: Go says %q, C says %q", test.enum, n, got, name)
			}
			if !inC && got != "" && !strings.ContainsAny(got, "(,") { // a number, or several flags
				t.Errorf("%s %d: Go says %q, C has no such value", test.enum, n, got)
			}
		}
	}
}

// The macros that layout.go repeats.
func TestMacrosAreTheDataPlanes(t *testing.T) {
	header, err := os.ReadFile("../bpf/types.h")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"ROAM_SCHEMA":          Schema,
		"ROAM_TRACE_BYTES":     TraceBytes,
		"ROAM_LISTENER_PROBES": listenerProbes,
		"ROAM_ID_KEYS":         Generations,
		"ROAM_MAX_MAC1_KEYS":   MaxMAC1Keys,
		"ROAM_XSK_INTERFACES":  XSKInterfaces,
		"ROAM_XSK_QUEUES":      XSKQueues,
		"ROAM_MAX_GROUPS":      MaxGroups,
		"ROAM_MAX_WORKERS":     MaxWorkers,
		"ROAM_MAX_LANES":       maxLanes,
	} {
		m := regexp.MustCompile(`(?m)^#define ` + name + `\s+(\d+)`).FindSubmatch(header)
		if m == nil {
			t.Errorf("bpf/types.h has no %s", name)
			continue
		}
		if got, _ := strconv.Atoi(string(m[1])); got != want {
			t.Errorf("%s is %d in C, %d in Go", name, got, want)
		}
	}
}

// What Go stores as one word must be one in C too.
func TestWordsOfLayouts(t *testing.T) {
	for name, got := range map[string]uintptr{
		"slot size":      unsafe.Sizeof(slot{}) - 64,
		"slot port":      unsafe.Offsetof(slot{}.Port) % 8,
		"slot spare":     unsafe.Offsetof(slot{}.Spare) - unsafe.Offsetof(slot{}.Port) - 2,
		"slot seen":      unsafe.Offsetof(slot{}.Seen) - unsafe.Offsetof(slot{}.Port) - 4,
		"listener port":  unsafe.Offsetof(listener{}.Port) % 8,
		"listener index": unsafe.Offsetof(listener{}.Index) - unsafe.Offsetof(listener{}.Port) - 2,
		"listener flags": unsafe.Offsetof(listener{}.Flags) - unsafe.Offsetof(listener{}.Port) - 4,
		"config schema":  unsafe.Offsetof(config{}.Schema),
	} {
		if got != 0 {
			t.Errorf("%s: the layout has moved by %d", name, got)
		}
	}
}

func TestVerdictOfStageAndReason(t *testing.T) {
	for _, test := range []struct {
		reason Reason
		stage  Stage
		want   Verdict
	}{
		{ReasonNotUDP, StageXDP, VerdictPass},
		{ReasonUnknownProtocol, StageXDP, VerdictPass},
		{ReasonUnknownProtocol, StageSocket, VerdictDrop},
		{ReasonMain, StageXDP, VerdictPass},
		{ReasonMain, StageSocket, VerdictDeliver},
		{ReasonUnsteered, StageSocket, VerdictDeliver},
		{ReasonMainXSK, StageXDP, VerdictRedirect},
		{ReasonRetry, StageXDP, VerdictTX},
		{ReasonIDForged, StageXDP, VerdictDrop},
		{ReasonIDForged, StageSocket, VerdictDrop},
		{15, StageXDP, VerdictPass}, // not in use yet
		{62, StageXDP, VerdictDrop},
	} {
		if got := test.reason.Verdict(test.stage); got != test.want {
			t.Errorf("%v at %v: %v, want %v", test.reason, test.stage, got, test.want)
		}
	}
}

func TestReasonsAreAllKnown(t *testing.T) {
	n := 0
	Reasons(func(r Reason) bool {
		if !r.Known() || r.String() == "" {
			t.Errorf("reason %d has no name", r)
		}
		n++
		return true
	})
	if n < 30 {
		t.Errorf("%d reasons, expected all", n)
	}
	if Reason(200).Known() || Reason(200).String() != "reason(200)" {
		t.Errorf("reason 200: %v", Reason(200))
	}
}
