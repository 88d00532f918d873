// SPDX-License-Identifier: Apache-2.0

// Package report collects what the benchmarks measure: a table for people and
// bench/results.json for machines, in the same rows.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// Peer is what a row was measured against in the same run.
type Peer struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// Row is one measurement with its goal.
type Row struct {
	Row   int       `json:"row"` // number in the list of goals, docs/BENCHMARKS.md
	Name  string    `json:"name"`
	Unit  string    `json:"unit"`
	Value float64   `json:"value"` // median of Runs
	Goal  string    `json:"goal"`  // such as "<= 40"
	Met   bool      `json:"met"`
	Peer  *Peer     `json:"peer,omitempty"`
	Runs  []float64 `json:"runs"`
}

// AtMost is a row whose goal is a value of at most goal.
func AtMost(row int, name, unit string, runs []float64, goal float64, peer *Peer) Row {
	v := Median(runs)
	return Row{row, name, unit, v, fmt.Sprintf("<= %g", goal), v <= goal, peer, runs}
}

// AtLeast is a row whose goal is a value of at least goal.
func AtLeast(row int, name, unit string, runs []float64, goal float64, peer *Peer) Row {
	v := Median(runs)
	return Row{row, name, unit, v, fmt.Sprintf(">= %g", goal), v >= goal, peer, runs}
}

// Median returns the middle of values, or the mean of the two in the middle.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Print writes the rows as a table: goal, this run, met or not.
func Print(w io.Writer, rows []Row) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "ROW\tWHAT\tGOAL\tTHIS RUN\tRANGE\tMET\tAGAINST")
	for _, r := range rows {
		met, against := "yes", ""
		if !r.Met {
			met = "NO"
		}
		if r.Peer != nil {
			against = fmt.Sprintf("%s: %s", r.Peer.Name, number(r.Peer.Value))
		}
		fmt.Fprintf(tw, "%d\t%s\t%s %s\t%s\t%s..%s\t%s\t%s\n", r.Row, r.Name, r.Goal, r.Unit,
			number(r.Value), number(slices.Min(r.Runs)), number(slices.Max(r.Runs)), met, against)
	}
	return tw.Flush()
}

// number prints small values with a digit more than large ones.
func number(v float64) string {
	if v < 10 && v > -10 {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// results is the file as a whole.
type results struct {
	Machine Machine `json:"machine"`
	Rows    []Row   `json:"rows"`
}

// Save puts rows into the file in place of those with the same numbers: the
// parts of the benchmark are run one by one. Rows measured on another machine
// are dropped, they cannot stand beside these.
func Save(path string, machine Machine, rows []Row) error {
	var all results
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("reading earlier results: %w", err)
	default:
		if err := json.Unmarshal(old, &all); err != nil {
			return fmt.Errorf("%s is not a results file (%w): remove it and run again", path, err)
		}
	}
	if all.Machine != machine {
		all = results{Machine: machine}
	}
	all.Rows = slices.DeleteFunc(all.Rows, func(r Row) bool {
		return slices.ContainsFunc(rows, func(n Row) bool { return n.Row == r.Row })
	})
	all.Rows = append(all.Rows, rows...)
	slices.SortStableFunc(all.Rows, func(a, b Row) int { return a.Row - b.Row })
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Machine says where the rows were measured.
type Machine struct {
	CPU      string `json:"cpu"`
	CPUs     int    `json:"cpus"`
	MemoryMB int    `json:"memory_mb"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
}

// field returns what follows name and a colon in a file of such lines.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
