// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// A quick run gives every row that needs no large table, as one document, and judges
// none.
func TestBench(t *testing.T) {
	testutil.RequirePrivileged(t)
	var stdout, stderr bytes.Buffer
	e := newEnv()
	e.args, e.stdout, e.stderr = []string{"bench", "--quick", "-o", "json"}, &stdout, &stderr
	if code := run(e); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	var doc struct {
		Kind  string
		Items []measurement
	}
	if err := json.Unmarshal(stdout.Bytes(), &doc); err != nil {
		t.Fatalf("%v in %s", err, &stdout)
	}
	rows := map[int]bool{}
	for _, m := range doc.Items {
		rows[m.Row] = true
		if m.Goal != "" || m.Met != nil {
			t.Errorf("row %d in %s has the goal %q, met %v", m.Row, m.Unit, m.Goal, m.Met)
		}
	}
	for _, row := range []int{1, 3, 5, 6, 7, 8} {
		if !rows[row] {
			t.Errorf("no row %d", row)
		}
	}
	if doc.Kind != benchKind || !strings.Contains(stderr.String(), "Linux ") {
		t.Errorf("kind %q, on stderr: %s", doc.Kind, &stderr)
	}
}

// Goals are shown where they hold on any machine: for ratios.
func TestBenchGoals(t *testing.T) {
	rows := []report.Row{
		{Row: 1, Unit: "ns", Value: 20, Goal: "<= 40", Met: true},
		{Row: 5, Unit: "x", Value: 0.7, Goal: ">= 0.8"},
	}
	for _, judged := range []bool{true, false} {
		var stdout bytes.Buffer
		e := newEnv()
		e.stdout, e.format = &stdout, formatJSON
		if err := showBench(e, report.Results{Rows: rows}, judged); err != nil {
			t.Fatal(err)
		}
		var doc struct{ Items []measurement }
		if err := json.Unmarshal(stdout.Bytes(), &doc); err != nil || len(doc.Items) != len(rows) {
			t.Fatalf("%v in %s", err, &stdout)
		}
		for _, m := range doc.Items {
			shown := judged && m.Unit == "x"
			if (m.Goal != "") != shown || (m.Met != nil) != shown || shown && *m.Met {
				t.Errorf("judged %v: row %d in %s has the goal %q, met %v", judged, m.Row, m.Unit, m.Goal, m.Met)
			}
		}
	}
}
