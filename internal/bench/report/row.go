// SPDX-License-Identifier: Apache-2.0

// Package report collects what the benchmarks measure: a table for people,
// bench/results.json for machines and the tables of docs/BENCHMARKS.md, all with
// the same rows.
package report

import (
	"fmt"
	"slices"
)

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

// Peer is what a row was measured against in the same run.
type Peer struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"` // the peer's median
	// Ours is this project's median in the same unit, where the row is a ratio.
	Ours float64 `json:"ours,omitempty"`
}

// Aside is a measurement without a goal: what was tried and is not better, or what
// stands behind the row with the same number.
type Aside struct {
	Row   int       `json:"row"`
	Name  string    `json:"name"`
	Unit  string    `json:"unit"`
	Value float64   `json:"value"`
	Peer  *Peer     `json:"peer,omitempty"`
	Runs  []float64 `json:"runs"`
}

// AtMost is a row whose goal is a value of at most goal.
func AtMost(row int, name, unit string, runs []float64, goal float64) Row {
	v := Median(runs)
	return Row{Row: row, Name: name, Unit: unit, Value: v, Goal: fmt.Sprintf("<= %g", goal), Met: v <= goal, Runs: runs}
}

// AtLeast is a row whose goal is a value of at least goal.
func AtLeast(row int, name, unit string, runs []float64, goal float64) Row {
	v := Median(runs)
	return Row{Row: row, Name: name, Unit: unit, Value: v, Goal: fmt.Sprintf(">= %g", goal), Met: v >= goal, Runs: runs}
}

// Against names what the row was measured against: the peer's runs and, where the
// row is a ratio of the two, ours in the same unit.
func (r Row) Against(name, unit string, theirs, ours []float64) Row {
	r.Peer = &Peer{Name: name, Unit: unit, Value: Median(theirs), Ours: Median(ours)}
	return r
}

// Beside is a measurement without a goal.
func Beside(row int, name, unit string, runs []float64) Aside {
	return Aside{Row: row, Name: name, Unit: unit, Value: Median(runs), Runs: runs}
}

// Against is as that of Row.
func (a Aside) Against(name, unit string, theirs, ours []float64) Aside {
	a.Peer = Row{}.Against(name, unit, theirs, ours).Peer
	return a
}

// Portable reports whether the goal means something on any machine: a ratio to
// a peer in the same run does, nanoseconds do not.
func (r Row) Portable() bool { return r.Unit == "x" }

// Median returns the middle of values, or the mean of the two in the middle.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Ratios divides pair by pair: the runs of a pair have met the same weather.
func Ratios(a, b []float64) []float64 {
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = a[i] / b[i]
	}
	return ratios
}
