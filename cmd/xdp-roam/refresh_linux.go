// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// minInterval is the least time between two looks at the daemon.
const minInterval = 100 * time.Millisecond

// refresh calls draw again and again until ctx ends, which is no error, or draw
// fails. On a terminal each picture takes the place of the one before; what draw
// prints goes to the env that it is given, and rows is how many lines there are.
func (e *env) refresh(ctx context.Context, interval time.Duration, draw func(ctx context.Context, screen *env, rows int) error) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		var picture bytes.Buffer
		screen := *e
		screen.stdout = &picture
		width, rows := e.screenSize()
		switch err := draw(ctx, &screen, rows); {
		case canceled(ctx, err):
			return nil
		case err != nil:
			return err
		}
		text := picture.String()
		if isTerminal(e.stdout) {
			text = onScreen(text, width, rows)
		}
		if _, err := e.stdout.Write([]byte(text)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// onScreen makes text take the place of what is on the screen: cursor home, each
// line cut to the width and its rest erased, and what is below too.
func onScreen(text string, width, rows int) string {
	var b strings.Builder
	b.WriteString("\x1b[H")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines[:min(len(lines), rows-1)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(cut(line, width))
		b.WriteString("\x1b[K")
	}
	b.WriteString("\r\n\x1b[J")
	return b.String()
}

// cut returns the first characters of a line. A colour takes no room, and ends with the
// line.
func cut(line string, most int) string {
	n, escape, colored := 0, false, false
	for at, r := range line {
		switch {
		case r == '\x1b':
			escape, colored = true, true
		case escape:
			escape = r != 'm'
		case n == most && colored:
			return line[:at] + plainText
		case n == most:
			return line[:at]
		default:
			n++
		}
	}
	return line
}

// screenSize is that of the terminal that stdout is, or of an old one.
func (e *env) screenSize() (width, rows int) {
	if file, ok := e.stdout.(*os.File); ok {
		if width, rows, err := term.GetSize(int(file.Fd())); err == nil && width > 0 && rows > 2 {
			return width, rows
		}
	}
	return 80, 24
}
