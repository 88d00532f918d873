// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newManCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages to a directory",
		Long: `man writes a section 1 page for each command, with the text of --help. Packages already
contain them; for the binary alone, use a DIR such as /usr/local/share/man/man1.`,
		Example: `  xdp-roam man /usr/local/share/man/man1`,
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			built := readVersion().Date
			// A package's files carry the time that the packager says (reproducible-builds.org).
			if seconds, err := strconv.ParseInt(e.getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
				built = time.Unix(seconds, 0)
			}
			if built.IsZero() {
				built = e.now()
			}
			built = built.UTC()
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("cannot write the manual pages: %w", err)
			}
			root := newRootCommand(e)
			forManual(root)
			header := &doc.GenManHeader{Section: "1", Date: &built, Source: "xdp-roam " + release(), Manual: "xdp-roam"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("cannot write the manual pages: %w", err)
			}
			return nil
		},
	}
}

// forManual makes of a command's texts what cobra/doc, which takes them for
// Markdown, shows as they are: what is indented is code.
func forManual(c *cobra.Command) {
	c.DisableAutoGenTag = true // it has the day of the build
	c.InitDefaultHelpCmd()
	var text []string
	code := false
	for line := range strings.Lines(c.Long) {
		indented := strings.HasPrefix(line, "  ")
		if indented && !code {
			text = append(text, "\n")
		}
		if code = indented; code {
			line = "  " + line
		}
		text = append(text, line)
	}
	c.Long = strings.Join(text, "")
	for _, sub := range c.Commands() {
		forManual(sub)
	}
}
