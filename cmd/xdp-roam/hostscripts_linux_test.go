// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// TestHostScripts runs testdata/host: what the commands that touch the kernel print,
// each script on a host of its own with the interface edge0.
func TestHostScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/host/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b := newLabBench(t)
			testscript.Run(t, testscript.Params{
				Files: []string{file}, RequireExplicitExec: true, RequireUniqueNames: true,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){"host": b.host, "like": like, "document": document},
			})
		})
	}
}

// host CODE ARGS... runs xdp-roam at the edge, where it must end with that code.
func (b *labBench) host(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: host CODE ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	cmd := b.command(args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	ts.Check(b.edge.Start(cmd))
	_ = cmd.Wait() // the code is in ProcessState
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// What the kernel gives another value each time: in JSON by its name, in tables any number.
var (
	variesJSON  = regexp.MustCompile(`("(?:id|program_id|program_id_before|program_id_after|memory_bytes|value_bytes|value)": )[0-9]+`)
	variesTable = regexp.MustCompile(`\b()[0-9]+\b`)
	spaces      = regexp.MustCompile(` +`)
)

// like FILE compares stdout with a golden file: what varies does not count, nor how
// much space is between words.
func like(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: like FILE")
	}
	plain := func(text string) string {
		varies := variesTable
		if text != "" && text[0] == '{' {
			varies = variesJSON
		}
		return spaces.ReplaceAllString(varies.ReplaceAllString(text, "${1}0"), " ")
	}
	if got := ts.ReadFile("stdout"); plain(got) != plain(ts.ReadFile(args[0])) {
		ts.Fatalf("stdout is not like %s:\n%s", args[0], got)
	}
}

// document KIND COUNT wants stdout to be a JSON document of that kind with at least so many items.
func document(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: document KIND COUNT")
	}
	least, err := strconv.Atoi(args[1])
	ts.Check(err)
	var d control.Document[map[string]any]
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &d))
	if d.APIVersion != control.APIVersion || d.Kind != args[0] || d.Items == nil || len(d.Items) < least {
		ts.Fatalf("%s %s with %d items", d.APIVersion, d.Kind, len(d.Items))
	}
}
