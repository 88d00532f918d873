// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary answer as xdp-roam when a script runs it by
// that name; where a script sets NOW, that is the time.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"xdp-roam": func() {
		e := newEnv()
		if now, err := time.Parse(time.RFC3339, os.Getenv("NOW")); err == nil {
			e.now = func() time.Time { return now }
		}
		os.Exit(run(e))
	}})
}

// scriptCommands are those that scripts can use beside the usual ones.
var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){"exits": exits}

// TestScripts runs testdata/script: what people see, to the byte. With
// UPDATE_SCRIPTS=1 the golden parts are written anew.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:                scriptCommands,
	})
}

// exits CODE COMMAND... runs a command that must end with that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
