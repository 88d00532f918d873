// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// everyCommand calls f for each command that a person can see.
func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			everyCommand(sub, f)
		}
	}
}

// Every command explains itself, and shows how it is typed.
func TestEveryCommandIsExplained(t *testing.T) {
	e, _, _ := testEnv(formatTable)
	everyCommand(newRootCommand(e), func(c *cobra.Command) {
		if c.Long == "" || c.Short == "" {
			t.Errorf("%s: no Short or no Long", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			words := strings.Fields(line)
			if !strings.HasPrefix(line, "  ") || len(words) < 2 || words[0] != "xdp-roam" {
				continue // a pipe's other end, or a comment
			}
			if found, _, err := newRootCommand(e).Find(words[1:]); err != nil || !found.Runnable() {
				t.Errorf("%s: its example is no command: %s: %v", c.CommandPath(), line, err)
			}
		}
		if !strings.Contains(c.Example, "  xdp-roam ") {
			t.Errorf("%s: no Example", c.CommandPath())
		}
	})
}

// There is a page for every command, the same one on every day, and groff has
// nothing to say against it.
func TestManualPages(t *testing.T) {
	pages := func(day int) string {
		directory := t.TempDir()
		e, _, _ := testEnv(formatTable)
		e.args = []string{"man", directory}
		e.now = func() time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
		e.getenv = func(name string) string { return map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}[name] }
		if code := run(e); code != exitOK {
			t.Fatalf("man ended with %d", code)
		}
		return directory
	}
	first, second := pages(1), pages(2)
	e, _, _ := testEnv(formatTable)
	var names []string
	everyCommand(newRootCommand(e), func(c *cobra.Command) {
		names = append(names, filepath.Join(first, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
	})
	for _, name := range names {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if again, err := os.ReadFile(filepath.Join(second, filepath.Base(name))); err != nil || string(again) != string(page) {
			t.Errorf("%s differs on another day: %v", filepath.Base(name), err)
		}
		if !strings.Contains(string(page), `"Nov 2023" "xdp-roam `) {
			t.Errorf("%s has another date than it was told:\n%.200s", filepath.Base(name), page)
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		testutil.SkipOrFail(t, "no groff (apt: groff-base)")
	}
	if out, err := exec.Command(groff, append([]string{"-man", "-Tutf8", "-ww", "-z"}, names...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
	// What is written as a file stays one.
	out, err := exec.Command(groff, "-man", "-Tascii", "-P-cbou", filepath.Join(first, "xdp-roam-run.1")).Output()
	if err != nil || !strings.Contains(string(out), "key_file = \"server.key\"\n") {
		t.Errorf("the configuration in xdp-roam-run.1 is not shown as it is (%v):\n%s", err, out)
	}
}

// version says what the linker was told.
func TestVersion(t *testing.T) {
	defer func(v, c, d string) { version, commit, date = v, c, d }(version, commit, date)
	version, commit, date = "1.2.3", "0123456789abcdef0123456789abcdef01234567-dirty", "2026-01-02T03:04:05Z"
	for _, test := range []struct {
		f    format
		want string
	}{{formatTable, "1.2.3    0123456789ab-dirty  2026-01-02  go"}, {formatWide, commit}} {
		e, stdout, _ := testEnv(test.f)
		e.args = []string{"version", "-o", string(test.f)}
		if code := run(e); code != exitOK || !strings.Contains(stdout.String(), test.want) {
			t.Errorf("%d:\n%s\nwant %q", code, stdout, test.want)
		}
	}
	e, stdout, _ := testEnv(formatTable)
	e.args = []string{"version", "-o", "json"}
	code := run(e)
	var document control.Document[versionItem]
	if err := json.Unmarshal(stdout.Bytes(), &document); err != nil || code != exitOK || len(document.Items) != 1 {
		t.Fatalf("%d %v\n%s", code, err, stdout)
	}
	if item := document.Items[0]; item.Commit != commit || !item.Date.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || item.Version != version || item.Go == "" {
		t.Errorf("%+v", item)
	}
}
