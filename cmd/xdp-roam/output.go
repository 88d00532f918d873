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
	var text [32]byte
	return string(append(appendAge(text[:0], now.Sub(t)), " ago"...))
}

// age writes a duration in its two largest units.
func age(d time.Duration) string { return string(appendAge(nil, d)) }

// appendAge is age for a million lines.
func appendAge(b []byte, d time.Duration) []byte {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return appendUnits(b, d, time.Second, 's')
	case d < time.Hour:
		return appendUnits(appendUnits(b, d, time.Minute, 'm'), d%time.Minute, time.Second, 's')
	case d < day:
		return appendUnits(appendUnits(b, d, time.Hour, 'h'), d%time.Hour, time.Minute, 'm')
	}
	return appendUnits(appendUnits(b, d, day, 'd'), d%day, time.Hour, 'h')
}

func appendUnits(b []byte, d, unit time.Duration, name byte) []byte {
	return append(strconv.AppendInt(b, int64(d/unit), 10), name)
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
