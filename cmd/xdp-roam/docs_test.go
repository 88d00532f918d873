// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
)

// root is the repository, seen from this package.
const root = "../.."

// documents are those whose code is tested.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents found: %v", err)
	}
	return append([]string{filepath.Join(root, "README.md")}, files...)
}

// codeBlock is one fenced block of a document.
type codeBlock struct {
	where    string // file:line
	language string
	lines    []string
}

// languages are those of the documents' blocks: under another name for shell,
// commands would go untested.
var languages = []string{"", "sh", "go", "c", "toml", "json"}

func codeBlocks(t *testing.T, file, language string) []codeBlock {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []codeBlock
	var open *codeBlock
	for i, line := range strings.Split(string(text), "\n") {
		fence, ok := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case ok && open == nil:
			open = &codeBlock{where: fmt.Sprintf("%s:%d", file, i+1), language: fence}
			if !slices.Contains(languages, fence) {
				t.Errorf("%s: a block of %q: write sh for commands, or teach this test the language", open.where, fence)
			}
		case ok:
			if open.language == language {
				blocks = append(blocks, *open)
			}
			open = nil
		case open != nil:
			open.lines = append(open.lines, line)
		}
	}
	if open != nil {
		t.Errorf("%s: the block does not end", open.where)
	}
	return blocks
}

// shellBlock is a block of shell commands.
type shellBlock struct {
	where    string
	host     string // where a person types it: "server", "client", "Debian server"; empty: in a checkout
	commands []string
}

// hostLine is the first line of a block that is typed on one of two machines.
var hostLine = regexp.MustCompile(`^# on (?:the (server|client)|a (Debian server))\b`)

// shellBlocks splits the shell blocks of a document into commands: lines, those
// that a backslash continues, and here-documents with quoted delimiters.
func shellBlocks(t *testing.T, file string) []shellBlock {
	t.Helper()
	var blocks []shellBlock
	for _, code := range codeBlocks(t, file, "sh") {
		b, lines := shellBlock{where: code.where}, code.lines
		if host := hostLine.FindStringSubmatch(strings.Join(lines, "\n")); host != nil {
			b.host = host[1] + host[2]
		}
		for i := 0; i < len(lines); i++ {
			first := i
			if _, delimiter, ok := strings.Cut(lines[i], "<<'"); ok {
				end := slices.Index(lines[i:], strings.TrimSuffix(delimiter, "'"))
				if end < 0 {
					t.Fatalf("%s: a here-document without end: %s", b.where, lines[i])
				}
				i += end
			}
			for strings.HasSuffix(lines[i], `\`) && i+1 < len(lines) {
				i++
			}
			if command := strings.Join(lines[first:i+1], "\n"); strings.TrimSpace(command) != "" && !strings.HasPrefix(command, "#") {
				b.commands = append(b.commands, command)
			}
		}
		if len(b.commands) == 0 {
			t.Errorf("%s: a block without commands", b.where)
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// The Go of the documents is lines, in their order, of an example that runs.
func TestDocumentedGo(t *testing.T) {
	examples := []string{"userspace/server/example_test.go", "userspace/client/example_test.go", "userspace/stream/example_test.go"}
	var parts []codeBlock
	for _, file := range documents(t) {
		for _, block := range codeBlocks(t, file, "go") {
			for _, part := range strings.Split(strings.Join(block.lines, "\n"), "\n\n") {
				parts = append(parts, codeBlock{where: block.where, lines: strings.Split(part, "\n")})
			}
		}
	}
	if len(parts) != len(examples) {
		t.Fatalf("the documents have %d pieces of Go, and there are %d examples: one piece each, between empty lines", len(parts), len(examples))
	}
	for i, example := range examples {
		text, err := os.ReadFile(filepath.Join(root, example))
		if err != nil {
			t.Fatal(err)
		}
		rest := strings.Split(string(text), "\n")
		for _, line := range parts[i].lines {
			code, _, _ := strings.Cut(line, " //")
			at := slices.IndexFunc(rest, func(l string) bool { return strings.TrimSpace(l) == strings.TrimSpace(code) })
			if at < 0 {
				t.Errorf("%s: %s has no such line there: %s", parts[i].where, example, code)
				continue
			}
			rest = rest[at+1:]
		}
	}
}

// Every piece of configuration is one that `run` takes, with a key beside it.
func TestDocumentedConfig(t *testing.T) {
	found := 0
	for _, file := range documents(t) {
		for _, block := range codeBlocks(t, file, "toml") {
			found++
			name := filepath.Join(t.TempDir(), "edge.toml")
			if err := os.WriteFile(name, []byte(strings.Join(block.lines, "\n")), 0o600); err != nil {
				t.Fatal(err)
			}
			c := config.Default()
			c.KeyFile, c.AllowAnonymous = "server.key", true
			if err := c.ReadFile(name); err != nil {
				t.Errorf("%s: %v", block.where, err)
				continue
			}
			if c.Services == nil { // a piece about something else
				c.Services = []config.Service{{Port: 7, Backend: "echo:"}}
			}
			if err := c.Validate(checkService); err != nil {
				t.Errorf("%s: %v", block.where, err)
			}
		}
	}
	if found == 0 {
		t.Error("the documents have no configuration: the test looks at the wrong place")
	}
}

// Commands for a checkout are make's: CI runs them, this test sees that they exist.
func TestDocumentedTargets(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range documents(t) {
		for _, block := range shellBlocks(t, file) {
			if block.host != "" {
				continue // TestDocumentedCommands
			}
			for _, command := range block.commands {
				words := strings.Fields(strings.Split(command, "#")[0])
				if len(words) != 2 || words[0] != "make" {
					t.Errorf("%s: this test knows only `make TARGET` in a block that does not begin with \"# on the server\" or \"# on the client\": %s", block.where, command)
					continue
				}
				seen++
				if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(words[1]) + `:`).Match(makefile) {
					t.Errorf("%s: the Makefile has no target %s", block.where, words[1])
				}
			}
		}
	}
	if seen < 2 {
		t.Errorf("the documents name %d targets: where are make demo and make test?", seen)
	}
}
