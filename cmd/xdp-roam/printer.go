// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// lookahead is how many rows a table looks at to find how wide its columns are:
// one of a million rows is not held as a whole. A cell that is wider later pushes
// its row out of line.
const lookahead = 1000

// printer writes items to stdout as they come, in the form that -o asks for.
type printer[T any] struct {
	e       *env
	kind    string
	columns []column[T]
	out     *bufio.Writer

	rows    [][]string // of a table, until the widths are fixed
	widths  []int      // nil until then
	row     []string   // reused
	scratch []byte     // reused
	began   bool       // a document's head is written
	printed int        // items
}

// newPrinter prepares to print; close must follow.
func newPrinter[T any](e *env, kind string, columns []column[T]) *printer[T] {
	p := &printer[T]{e: e, kind: kind, out: bufio.NewWriterSize(e.stdout, 64<<10)}
	p.columns = slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.wide && e.format != formatWide })
	if !e.format.isJSON() && !e.noHeaders {
		head := make([]string, len(p.columns))
		for i, c := range p.columns {
			head[i] = strings.ToUpper(c.name)
		}
		p.rows = append(p.rows, head)
	}
	return p
}

// print writes one item, or holds it until the widths of the table are known.
func (p *printer[T]) print(item T) error {
	p.printed++
	if p.e.format.isJSON() {
		return p.printJSON(item)
	}
	p.row = p.row[:0]
	for _, c := range p.columns {
		cell := c.value(item)
		if cell == "" {
			cell = "-"
		}
		p.row = append(p.row, cell)
	}
	if p.widths != nil {
		return p.write(p.row)
	}
	p.rows = append(p.rows, slices.Clone(p.row))
	if len(p.rows) < lookahead {
		return nil
	}
	return p.align()
}

// align fixes the widths by the rows so far, and writes those.
func (p *printer[T]) align() error {
	if p.widths == nil {
		p.widths = make([]int, len(p.columns))
		for i, c := range p.columns {
			p.widths[i] = c.width
		}
	}
	for _, row := range p.rows {
		for i, cell := range row {
			p.widths[i] = max(p.widths[i], width(cell))
		}
	}
	for _, row := range p.rows {
		if err := p.write(row); err != nil {
			return err
		}
	}
	p.rows = nil
	return nil
}

func (p *printer[T]) write(row []string) error {
	b := p.scratch[:0]
	for i, cell := range row {
		b = append(b, cell...)
		if i == len(row)-1 {
			break
		}
		b = append(b, ' ') // at least one, where a cell is wider than its column
		for n := width(cell) + 1; n < p.widths[i]+2; n++ {
			b = append(b, ' ')
		}
	}
	p.scratch = append(b, '\n')
	_, err := p.out.Write(p.scratch)
	return err
}

// width is how many characters text takes on a screen, escape sequences for color
// not counted.
func width(text string) int {
	if strings.IndexByte(text, '\x1b') < 0 {
		return utf8.RuneCountInString(text)
	}
	n, escape := 0, false
	for _, r := range text {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n++
		}
	}
	return n
}

// appender is an item that writes its own JSON, for lists too long for encoding/json.
type appender interface{ AppendJSON([]byte) []byte }

func (p *printer[T]) printJSON(item T) error {
	b := p.scratch[:0]
	if p.e.format == formatJSON {
		b = append(b, p.separator()...)
	}
	if own, ok := any(item).(appender); ok {
		b = own.AppendJSON(b)
	} else {
		text, err := p.encode(item)
		if err != nil {
			return err
		}
		b = append(b, text...)
	}
	if p.e.format == formatJSONL {
		b = append(b, '\n')
	}
	p.scratch = b
	_, err := p.out.Write(b)
	return err
}

func (p *printer[T]) encode(item T) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if p.e.format == formatJSON {
		encoder.SetIndent("    ", "  ")
	}
	err := encoder.Encode(item)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// separator is what stands before the next item of a document.
func (p *printer[T]) separator() string {
	if p.began {
		return ",\n    "
	}
	p.began = true
	return fmt.Sprintf("{\n  \"api_version\": %q,\n  \"kind\": %q,\n  \"items\": [\n    ", control.APIVersion, p.kind)
}

// flush writes what there is: no row is held back any more.
func (p *printer[T]) flush() error {
	if !p.e.format.isJSON() {
		if err := p.align(); err != nil {
			return err
		}
	}
	return p.out.Flush()
}

// close writes what is left.
func (p *printer[T]) close() error {
	if p.e.format == formatJSON {
		tail := "\n  ]\n}\n"
		if !p.began {
			tail = strings.TrimSuffix(p.separator(), "\n    ") + "]\n}\n"
		}
		if _, err := io.WriteString(p.out, tail); err != nil {
			return err
		}
	}
	return p.flush()
}
