// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/known"
	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// Exit codes: scripts and units act on them, so a number keeps its meaning.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotLoaded   = 3
	exitPermission  = 4
	exitUnsupported = 5
	exitConflict    = 6
)

// fault is an error of this package: what happened and how to mend it.
type fault struct {
	code int // 0: the code of err
	what string
	fix  string
	err  error
}

func (f *fault) Error() string {
	switch {
	case f.err == nil:
		return f.what
	case f.what == "":
		return f.err.Error()
	}
	return f.what + ": " + f.err.Error()
}

func (f *fault) Unwrap() error { return f.err }

// Fix is what the person can do about it.
func (f *fault) Fix() string { return f.fix }

func usage(format string, args ...any) error {
	return &fault{code: exitUsage, what: fmt.Sprintf(format, args...)}
}

// codes maps what libraries return to exit codes; platformCodes adds those of
// the packages that exist on Linux alone. The first match counts.
var codes = append([]codeOf{
	{config.ErrInvalid, exitUsage},
	{client.ErrConfig, exitUsage},
	{known.ErrInvalid, exitUsage},
	{known.ErrChanged, exitConflict},
	{control.ErrNotRunning, exitNotLoaded},
	{control.ErrInUse, exitConflict},
	{control.ErrPathTooLong, exitUsage},
	{control.ErrQuery, exitUsage},
}, platformCodes...)

type codeOf struct {
	err  error
	code int
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	var f *fault
	if errors.As(err, &f) && f.code != 0 {
		return f.code
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EPERM):
		return exitPermission
	case errors.Is(err, syscall.EADDRINUSE):
		return exitConflict
	}
	return exitFailure
}

// startDaemon mends what fails for want of one.
const startDaemon = "start it with `xdp-roam run`; --instance and --control name another one"

// errorItem is the JSON form of an error.
type errorItem struct {
	Message  string `json:"message"`
	Fix      string `json:"fix,omitempty"`
	ExitCode int    `json:"exit_code"`
}

// report writes err to stderr, as JSON where JSON was asked for, and returns
// the exit code.
func (e *env) report(err error) int {
	if err == nil {
		return exitOK
	}
	item := errorItem{Message: err.Error(), ExitCode: exitCode(err)}
	var fixer interface{ Fix() string }
	if errors.As(err, &fixer) {
		item.Fix = fixer.Fix()
	}
	if item.Fix == "" && item.ExitCode == exitPermission {
		item.Fix = "run it as a user who may do that, such as root"
	}
	switch {
	case errors.Is(err, control.ErrPathTooLong):
		item.Fix = "--control PATH names a shorter one"
	case errors.Is(err, control.ErrEnding) && item.Fix == "":
		item.Fix = "wait a moment; " + startDaemon
	case errors.Is(err, control.ErrNotRunning) && item.Fix == "":
		item.Fix = startDaemon
	}
	if e.format.isJSON() {
		_ = writeJSON(e.stderr, e.format, control.KindError, []errorItem{item})
		return item.ExitCode
	}
	fmt.Fprintf(e.stderr, "%s %s\n", e.red(e.stderr, "xdp-roam:"), strings.ReplaceAll(item.Message, "\n", "\n  "))
	if item.Fix != "" {
		fmt.Fprintf(e.stderr, "  fix: %s\n", strings.ReplaceAll(item.Fix, "\n", "\n       "))
	}
	return item.ExitCode
}
