// SPDX-License-Identifier: Apache-2.0

// Package doctor checks what a machine offers to an edge, and says what is missing, why
// that matters and how to fix it. Looking (Collect) and judging
// (Judge) are apart: judging is a pure function of the facts.
package doctor

import (
	"fmt"
	"slices"
)

// Severity is how bad a finding is.
type Severity uint8

// The severities: OK and Info ask for nothing, Warn is slower or weaker than it
// could be, Fail keeps the edge from running as it should.
const (
	OK Severity = iota
	Info
	Warn
	Fail
)

// String returns ok, info, warn or fail.
func (s Severity) String() string {
	if names := [...]string{"ok", "info", "warn", "fail"}; int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("severity %d", s)
}

// Finding is the result of one check.
type Finding struct {
	Severity Severity
	Check    string // what was looked at: "capabilities"
	On       string // the interface; empty: the machine
	What     string // what is the case
	Why      string // what that means; empty where it is as it should be
	Fix      string // the command that mends it, in backquotes where it is one
	// Kind says what sort of trouble a Fail is: loader.ErrPermission,
	// ErrUnsupported or ErrConflict.
	Kind error
}

// Worst returns the worst of the findings, the first of several; nil for none.
func Worst(findings []Finding) *Finding {
	var worst *Finding
	for i := range findings {
		if worst == nil || findings[i].Severity > worst.Severity {
			worst = &findings[i]
		}
	}
	return worst
}

// report collects findings.
type report []Finding

func (r *report) ok(check, on, what string, args ...any) {
	*r = append(*r, Finding{Severity: OK, Check: check, On: on, What: fmt.Sprintf(what, args...)})
}

func (r *report) add(f Finding) { *r = append(*r, f) }

// sorted puts the worst first, otherwise in the order of the checks.
func (r report) sorted() []Finding {
	slices.SortStableFunc(r, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
	return r
}
