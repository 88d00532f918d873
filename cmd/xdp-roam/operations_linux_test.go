// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/server"
)

func operations(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every reason that a counter can have is explained to the operator, in a table's first column.
func TestEveryReasonIsExplained(t *testing.T) {
	explained := make(map[string]bool)
	for line := range strings.Lines(operations(t)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			for _, name := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(cells[1], -1) {
				explained[name[1]] = false
			}
		}
	}
	look := func(name string) {
		if _, there := explained[name]; !there {
			t.Errorf("the reason %s is not explained in docs/OPERATIONS.md", name)
		}
		explained[name] = true
	}
	maps.Reasons(func(r maps.Reason) bool {
		look(r.String())
		return true
	})
	for r := server.Reason(1); int(r) < server.NumReasons; r++ {
		look(r.String())
	}
	for name, real := range explained {
		if !real {
			t.Errorf("docs/OPERATIONS.md explains %s, which is no reason", name)
		}
	}
}

// Every alert has a section, and every such section an alert.
func TestEveryAlertHasASection(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(root, "packaging", "prometheus", "xdp-roam.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text := operations(t)
	alerts := regexp.MustCompile(`(?m)^\s*- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1)
	for _, alert := range alerts {
		if !strings.Contains(text, "\n### "+alert[1]+"\n") {
			t.Errorf("docs/OPERATIONS.md has no section for %s", alert[1])
		}
	}
	if sections := regexp.MustCompile(`(?m)^### XdpRoam`).FindAllString(text, -1); len(alerts) < 5 || len(sections) != len(alerts) {
		t.Errorf("%d sections for %d alerts", len(sections), len(alerts))
	}
}

// What stands within a sentence is a command, too, with flags that it has.
func TestCommandsInSentences(t *testing.T) {
	found := 0
	for _, command := range regexp.MustCompile("`xdp-roam ([^`]+)`").FindAllStringSubmatch(operations(t), -1) {
		words := strings.Fields(command[1])
		if words[0] == "COMMAND" {
			continue
		}
		found++
		e, _, _ := testEnv(formatTable)
		var c *cobra.Command
		c, rest, err := newRootCommand(e).Find(words)
		if err == nil {
			err = c.ParseFlags(rest)
		}
		if err != nil || !c.HasParent() {
			t.Errorf("xdp-roam %s: %v", command[1], err)
		}
	}
	if found < 10 {
		t.Errorf("only %d commands: the test looks for the wrong thing", found)
	}
}
