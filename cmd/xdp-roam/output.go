// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
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
	width int  // at least so many characters, where rows come one by one
}

// show writes items to stdout in the form that -o asks for.
func show[T any](e *env, kind string, items []T, columns []column[T]) error {
	p := newPrinter(e, kind, columns)
	for _, item := range items {
		if err := p.print(item); err != nil {
			return err
		}
	}
	return p.close()
}

// writeJSON writes one document, or one line for each item.
func writeJSON[T any](w io.Writer, f format, kind string, items []T) error {
	return show(&env{stdout: w, format: f}, kind, items, nil)
}

// ago writes how long before now t was, as "37s ago"; "never" for no time.
func (e *env) ago(t time.Time) string { return since(e.now(), t) }

func since(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return age(now.Sub(t)) + " ago"
}

// age writes a duration in its two largest units.
func age(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return inUnits(d, time.Second, "s", 0, "")
	case d < time.Hour:
		return inUnits(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return inUnits(d, time.Hour, "h", time.Minute, "m")
	}
	return inUnits(d, day, "d", time.Hour, "h")
}

// inUnits is fmt.Sprintf for a million lines.
func inUnits(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	text := strconv.Itoa(int(d/large)) + largeName
	if small == 0 {
		return text
	}
	return text + strconv.Itoa(int(d%large/small)) + smallName
}

// shortID is enough of an id to tell sessions apart by eye.
func (e *env) shortID(id string) string {
	if e.format == formatWide || len(id) <= 12 {
		return id
	}
	return id[:12]
}

// sessionID is shortID for a session's.
func (e *env) sessionID(id wire.ID) string {
	if e.format == formatWide {
		return id.String()
	}
	return hex.EncodeToString(id[:6])
}
