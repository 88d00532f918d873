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
)

// root is the repository, seen from this package.
const root = "../.."

// shellBlock is one block of shell commands in a document.
type shellBlock struct {
	where    string // file:line
	host     string // where a person types it: "server", "client"; empty: in a checkout
	commands []string
}

// documents are those whose commands are tested.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents found: %v", err)
	}
	return append([]string{filepath.Join(root, "README.md")}, files...)
}

// fences are the languages of code blocks: with another name for shell, a
// block would go untested.
var fences = []string{"", "sh", "go", "c", "toml", "json"}

// hostLine is the first line of a block that is typed on one of two machines.
var hostLine = regexp.MustCompile(`^# on the (server|client)\b`)

func shellBlocks(t *testing.T, file string) []shellBlock {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []shellBlock
	var body []string
	language, opened := "", 0
	for i, line := range strings.Split(string(text), "\n") {
		fence, ok := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case !ok && opened > 0:
			body = append(body, line)
		case !ok:
		case opened == 0:
			language, opened, body = fence, i+1, nil
			if !slices.Contains(fences, language) {
				t.Errorf("%s:%d: a block of %q: write sh for commands, or teach this test the language", file, opened, language)
			}
		case language == "sh":
			blocks = append(blocks, newShellBlock(t, fmt.Sprintf("%s:%d", file, opened), body))
			opened = 0
		default:
			opened = 0
		}
	}
	if opened > 0 {
		t.Errorf("%s:%d: the block does not end", file, opened)
	}
	return blocks
}

// newShellBlock splits a block into commands: lines, those that a backslash
// continues, and here-documents with quoted delimiters.
func newShellBlock(t *testing.T, where string, body []string) shellBlock {
	t.Helper()
	b := shellBlock{where: where}
	if host := hostLine.FindStringSubmatch(strings.Join(body, "\n")); host != nil {
		b.host = host[1]
	}
	for i := 0; i < len(body); i++ {
		first := i
		if _, delimiter, ok := strings.Cut(body[i], "<<'"); ok {
			end := slices.Index(body[i:], strings.TrimSuffix(delimiter, "'"))
			if end < 0 {
				t.Fatalf("%s: a here-document without end: %s", where, body[i])
			}
			i += end
		}
		for strings.HasSuffix(body[i], `\`) && i+1 < len(body) {
			i++
		}
		if command := strings.Join(body[first:i+1], "\n"); strings.TrimSpace(command) != "" && !strings.HasPrefix(command, "#") {
			b.commands = append(b.commands, command)
		}
	}
	if len(b.commands) == 0 {
		t.Errorf("%s: a block without commands", where)
	}
	return b
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
