// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// A quick run gives every row that needs no large table, as one document, and its
// goals only where they hold on any machine.
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
		if (m.Goal != "") != (m.Unit == "x") || (m.Met != nil) != (m.Goal != "") {
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
