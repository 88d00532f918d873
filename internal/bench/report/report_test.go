// SPDX-License-Identifier: Apache-2.0

package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := Median(tt.in); got != tt.want {
			t.Errorf("Median(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestGoals(t *testing.T) {
	if r := AtMost(1, "", "ns", []float64{39, 40, 90}, 40); !r.Met || r.Value != 40 || r.Goal != "<= 40" {
		t.Errorf("%+v", r)
	}
	if r := AtMost(1, "", "ns", []float64{41}, 40); r.Met {
		t.Errorf("%+v", r)
	}
	if r := AtLeast(1, "", "x", []float64{4.4}, 4.5); r.Met || r.Goal != ">= 4.5" {
		t.Errorf("%+v", r)
	}
}

// A part of the benchmark replaces its own rows and leaves the other parts'.
func TestSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	here := Machine{CPU: "here"}
	row := func(n int, name string) Row { return AtMost(n, name, "ns", []float64{1}, 2) }
	saved := func(m Machine, rows ...Row) string {
		t.Helper()
		if err := Save(path, Results{Machine: m, Rows: rows}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			if _, name, ok := strings.Cut(line, `"name": "`); ok {
				names = append(names, strings.Trim(name, "\",\n"))
			}
		}
		return strings.Join(names, " ")
	}
	if got := saved(here, row(2, "b"), row(2, "b2")); got != "b b2" {
		t.Errorf("first part: %s", got)
	}
	if got := saved(here, row(1, "a")); got != "a b b2" {
		t.Errorf("another part: %s", got)
	}
	if got := saved(here, row(2, "new")); got != "a new" {
		t.Errorf("the first part again: %s", got)
	}
	if got := saved(Machine{CPU: "there"}, row(3, "c")); got != "c" {
		t.Errorf("another machine: %s", got)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, Results{Machine: here}); err == nil || !strings.Contains(err.Error(), "not a results file") {
		t.Errorf("a broken file: %v", err)
	}
}
