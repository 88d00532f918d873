// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"text/tabwriter"
)

// Print writes the rows as a table: goal, this run, met or not. What has no goal
// comes after them.
func (r *Results) Print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "ROW\tWHAT\tGOAL\tTHIS RUN\tRANGE\tMET\tAGAINST")
	for _, row := range r.Rows {
		met := "yes"
		if !row.Met {
			met = "NO"
		}
		fmt.Fprintf(tw, "%d\t%s\t%s %s\t%s\t%s\t%s\t%s\n", row.Row, row.Name, row.Goal, row.Unit,
			Number(row.Value), Spread(row.Runs), met, row.Peer)
	}
	for i, a := range r.Asides {
		if i == 0 {
			fmt.Fprintln(tw, "\nROW\tALSO MEASURED\tUNIT\tTHIS RUN\tRANGE\t\tAGAINST")
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%s\t\t%s\n", a.Row, a.Name, a.Unit, Number(a.Value), Spread(a.Runs), a.Peer)
	}
	return tw.Flush()
}

// String is what a table shows of a peer, and nothing for none.
func (p *Peer) String() string {
	switch {
	case p == nil:
		return ""
	case p.Ours != 0:
		return fmt.Sprintf("%s: %s %s, ours %s", p.Name, Number(p.Value), p.Unit, Number(p.Ours))
	}
	return fmt.Sprintf("%s: %s %s", p.Name, Number(p.Value), p.Unit)
}

// Spread prints the smallest and the largest run.
func Spread(runs []float64) string {
	if len(runs) == 0 {
		return ""
	}
	return Number(slices.Min(runs)) + ".." + Number(slices.Max(runs))
}

// Number prints three digits, and all of a large whole number.
func Number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || a == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
