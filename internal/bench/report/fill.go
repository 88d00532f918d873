// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	generated = "<!-- generated: "
	endOfIt   = "<!-- end of generated -->"
)

// Fill writes what was measured into a document, between lines such as
//
//	<!-- generated: rows 1 2 3 -->
//	<!-- end of generated -->
//
// and leaves the rest as it is. "rows" and "beside" (what has no goal) give tables,
// "machine" the machine, "met" how many goals are reached.
func (r *Results) Fill(document []byte) ([]byte, error) {
	var out bytes.Buffer
	inside := false
	for line := range strings.Lines(string(document)) {
		directive, starts := strings.CutPrefix(strings.TrimSpace(line), generated)
		switch {
		case strings.TrimSpace(line) == endOfIt:
			if !inside {
				return nil, fmt.Errorf("%s without a beginning", endOfIt)
			}
			inside = false
			out.WriteString(line)
		case inside && starts:
			return nil, fmt.Errorf("%s begins before the one before it ends", strings.TrimSpace(line))
		case starts:
			inside = true
			out.WriteString(line)
			text, err := r.generate(strings.Fields(strings.TrimSuffix(directive, "-->")))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
			}
			out.WriteString(text)
		case !inside:
			out.WriteString(line)
		}
	}
	if inside {
		return nil, fmt.Errorf("no %s at the end", endOfIt)
	}
	return out.Bytes(), nil
}

func (r *Results) generate(directive []string) (string, error) {
	if len(directive) == 0 {
		return "", fmt.Errorf("says not what")
	}
	numbers, err := atoi(directive[1:])
	if err != nil {
		return "", err
	}
	switch directive[0] {
	case "machine":
		return r.Machine.String() + "\n", nil
	case "met":
		return fmt.Sprintf("%d of %d goals are reached in this run.\n", r.Met(), len(r.Rows)), nil
	case "rows":
		return r.rowsTable(numbers), nil
	case "beside":
		return r.asidesTable(numbers), nil
	}
	return "", fmt.Errorf("%q is neither machine, met, rows nor beside", directive[0])
}

func atoi(fields []string) (numbers []int, err error) {
	for _, f := range fields {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

func (r *Results) rowsTable(numbers []int) string {
	var b strings.Builder
	b.WriteString("| row | what | goal | this run | met | against |\n|---|---|---|---|---|---|\n")
	for _, n := range numbers {
		if !slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Row == n }) {
			fmt.Fprintf(&b, "| %d | not measured in this run | | | | |\n", n)
		}
		for _, row := range r.Rows {
			if row.Row != n {
				continue
			}
			met := "yes"
			if !row.Met {
				met = "**no**"
			}
			fmt.Fprintf(&b, "| %d | %s | %s %s | %s | %s | %s |\n", n, row.Name, row.Goal, row.Unit, Number(row.Value), met, row.Peer)
		}
	}
	return b.String()
}

func (r *Results) asidesTable(numbers []int) string {
	var b strings.Builder
	b.WriteString("| row | also measured | this run | against |\n|---|---|---|---|\n")
	for _, a := range r.Asides {
		if slices.Contains(numbers, a.Row) {
			fmt.Fprintf(&b, "| %d | %s | %s %s | %s |\n", a.Row, a.Name, Number(a.Value), a.Unit, a.Peer)
		}
	}
	return b.String()
}
