// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// testEnv is an env whose output a test can read, at a fixed time.
func testEnv(f format) (e *env, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &env{
		stdin: strings.NewReader(""), stdout: stdout, stderr: stderr, format: f, color: "auto",
		getenv: func(string) string { return "" },
		now:    func() time.Time { return now },
	}, stdout, stderr
}

func TestShow(t *testing.T) {
	type item struct {
		A string `json:"a"`
		B int    `json:"b"`
	}
	columns := []column[item]{
		{name: "first", value: func(i item) string { return i.A }},
		{name: "second", value: func(i item) string { return fmt.Sprint(i.B) }, wide: true},
	}
	items := []item{{"<x>", 1}, {"", 2}}
	for f, want := range map[format]string{
		formatTable: "FIRST\n<x>\n-\n",
		formatWide:  "FIRST  SECOND\n<x>    1\n-      2\n",
		formatJSONL: `{"a":"<x>","b":1}` + "\n" + `{"a":"","b":2}` + "\n",
		formatJSON: `{
  "api_version": "xdp-roam/v1",
  "kind": "Thing",
  "items": [
    {
      "a": "<x>",
      "b": 1
    },
    {
      "a": "",
      "b": 2
    }
  ]
}
`,
	} {
		e, stdout, _ := testEnv(f)
		if err := show(e, "Thing", items, columns); err != nil || stdout.String() != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", f, err, stdout, want)
		}
	}
	e, stdout, _ := testEnv(formatTable)
	e.noHeaders = true
	if err := show(e, "Thing", items[:1], columns); err != nil || stdout.String() != "<x>\n" {
		t.Errorf("--no-headers: %v %q", err, stdout)
	}
	e, stdout, _ = testEnv(formatJSON)
	if err := show(e, "Thing", nil, columns); err != nil || !strings.Contains(stdout.String(), `"items": []`) {
		t.Errorf("nothing as JSON: %v %q", err, stdout)
	}
}

func TestAgo(t *testing.T) {
	e, _, _ := testEnv(formatTable)
	for d, want := range map[time.Duration]string{
		-time.Second: "0s ago", 999 * time.Millisecond: "0s ago", 37 * time.Second: "37s ago",
		61 * time.Second: "1m1s ago", 3*time.Hour + 25*time.Minute: "3h25m ago", 49 * time.Hour: "2d1h ago",
	} {
		if got := e.ago(e.now().Add(-d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := e.ago(time.Time{}); got != "never" {
		t.Errorf("no time: %q", got)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("x"), exitFailure},
		{usage("x"), exitUsage},
		{fmt.Errorf("x: %w", config.ErrInvalid), exitUsage},
		{fmt.Errorf("x: %w", control.ErrNotRunning), exitNotLoaded},
		{&fault{what: "x", err: os.ErrPermission}, exitPermission},
		{fmt.Errorf("x: %w", syscall.EPERM), exitPermission},
		{fmt.Errorf("x: %w", control.ErrInUse), exitConflict},
		{os.NewSyscallError("bind", syscall.EADDRINUSE), exitConflict},
		{&fault{code: exitUnsupported, err: os.ErrPermission}, exitUnsupported},
		{errors.Join(errors.New("x"), usage("y")), exitUsage},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	err := fmt.Errorf("while trying: %w", &fault{code: exitConflict, what: "it failed", err: errors.New("errno"), fix: "do\nthis"})
	e, stdout, stderr := testEnv(formatTable)
	if code := e.report(err); code != exitConflict {
		t.Errorf("exit code %d", code)
	}
	if want := "xdp-roam: while trying: it failed: errno\n  fix: do\n       this\n"; stderr.String() != want || stdout.Len() != 0 {
		t.Errorf("text: stderr %q, want %q; stdout %q", stderr, want, stdout)
	}
	e, stdout, stderr = testEnv(formatJSONL)
	e.report(err)
	if want := `{"message":"while trying: it failed: errno","fix":"do\nthis","exit_code":6}` + "\n"; stderr.String() != want || stdout.Len() != 0 {
		t.Errorf("JSON: stderr %q, want %q; stdout %q", stderr, want, stdout)
	}
}

func TestColor(t *testing.T) {
	for _, c := range []struct {
		flag, noColor string
		want          bool
	}{{"always", "1", true}, {"never", "", false}, {"auto", "", false /* a buffer is no terminal */}} {
		e, stdout, _ := testEnv(formatTable)
		e.color = c.flag
		e.getenv = func(name string) string { return map[string]string{"NO_COLOR": c.noColor}[name] }
		if got := e.red(stdout, "x") != "x"; got != c.want {
			t.Errorf("%+v: colored %v", c, got)
		}
	}
}
