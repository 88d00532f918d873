// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// Results are what was measured, and where.
type Results struct {
	Machine Machine `json:"machine"`
	Rows    []Row   `json:"rows"` // in order; what was not measured is absent
	Asides  []Aside `json:"asides,omitempty"`
}

// Add appends rows.
func (r *Results) Add(rows ...Row) { r.Rows = append(r.Rows, rows...) }

// AddAside appends measurements without a goal.
func (r *Results) AddAside(asides ...Aside) { r.Asides = append(r.Asides, asides...) }

// Sort orders rows and asides by number.
func (r *Results) Sort() {
	slices.SortStableFunc(r.Rows, func(a, b Row) int { return a.Row - b.Row })
	slices.SortStableFunc(r.Asides, func(a, b Aside) int { return a.Row - b.Row })
}

// Met counts the rows that reach their goals.
func (r *Results) Met() (n int) {
	for i := range r.Rows {
		if r.Rows[i].Met {
			n++
		}
	}
	return n
}

// Load reads a results file; one that is not there is an fs.ErrNotExist.
func Load(path string) (Results, error) {
	var r Results
	text, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("reading results: %w", err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s is not a results file (%w): remove it and run again", path, err)
	}
	return r, nil
}

// Save puts results into the file in place of those with the same numbers: the
// parts of the benchmark are run one by one. Rows measured on another machine
// are dropped, they cannot stand beside these.
func Save(path string, part Results) error {
	all, err := Load(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if all.Machine != part.Machine {
		all = Results{Machine: part.Machine}
	}
	measured := func(row int) bool {
		return slices.ContainsFunc(part.Rows, func(r Row) bool { return r.Row == row })
	}
	all.Rows = slices.DeleteFunc(all.Rows, func(r Row) bool { return measured(r.Row) })
	all.Asides = slices.DeleteFunc(all.Asides, func(a Aside) bool { return measured(a.Row) })
	all.Add(part.Rows...)
	all.AddAside(part.Asides...)
	all.Sort()
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
