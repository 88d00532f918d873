// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// format is the value of -o.
type format string

const (
	formatTable format = "table"
	formatWide  format = "wide"
	formatJSON  format = "json"
	formatJSONL format = "jsonl"
)

var formats = []string{string(formatTable), string(formatWide), string(formatJSON), string(formatJSONL)}

func (f format) isJSON() bool { return f == formatJSON || f == formatJSONL }

// String, Set and Type make a format a flag's value.
func (f *format) String() string { return string(*f) }

func (f *format) Type() string { return strings.Join(formats, "|") }

func (f *format) Set(text string) error {
	if !slices.Contains(formats, text) {
		return fmt.Errorf("write %s", strings.Join(formats, ", "))
	}
	*f = format(text)
	return nil
}

// column is one column of a table over items of type T.
type column[T any] struct {
	name  string
	value func(T) string
	wide  bool // only with -o wide
}

// show writes items to stdout in the form that -o asks for.
func show[T any](e *env, kind string, items []T, columns []column[T]) error {
	if e.format.isJSON() {
		return writeJSON(e.stdout, e.format, kind, items)
	}
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.wide && e.format != formatWide })
	w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	row := func(cell func(column[T]) string) {
		cells := make([]string, len(columns))
		for i, c := range columns {
			if cells[i] = cell(c); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if !e.noHeaders {
		row(func(c column[T]) string { return strings.ToUpper(c.name) })
	}
	for _, item := range items {
		row(func(c column[T]) string { return c.value(item) })
	}
	return w.Flush()
}

// writeJSON writes one document, or one line for each item.
func writeJSON[T any](w io.Writer, f format, kind string, items []T) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if f == formatJSONL {
		for _, item := range items {
			if err := encoder.Encode(item); err != nil {
				return err
			}
		}
		return nil
	}
	encoder.SetIndent("", "  ")
	return encoder.Encode(control.NewDocument(kind, items))
}

// ago writes how long before now t was, as "37s ago"; "never" for no time.
func (e *env) ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return age(e.now().Sub(t)) + " ago"
}

// age writes a duration in its two largest units.
func age(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// shortID is enough of an id to tell sessions apart by eye.
func (e *env) shortID(id string) string {
	if e.format == formatWide || len(id) <= 12 {
		return id
	}
	return id[:12]
}
