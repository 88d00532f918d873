// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
)

// env is everything a command takes from the process around it, so that a
// test can run any command inside its own process. The fields below the line
// are set by the global flags.
type env struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	now            func() time.Time

	// ---
	format    format
	noHeaders bool
	color     string
	verbose   bool
	bpffs     string
	instance  string
	control   string
}

func newEnv() *env {
	return &env{
		args:   os.Args[1:],
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		getenv: os.Getenv,
		now:    time.Now,
	}
}

// controlPath is the daemon's control socket.
func (e *env) controlPath() string {
	if e.control != "" {
		return e.control
	}
	instance := e.instance
	if instance == "" {
		instance = config.DefaultInstance
	}
	return filepath.Join("/run/xdp-roam", instance+".sock")
}

// logger writes diagnostics to stderr; -v adds what the data plane reports.
func (e *env) logger() *slog.Logger {
	level := slog.LevelInfo
	if e.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
}

// isTerminal says whether a person sits at the other end of a stream.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// colored says whether escape sequences may be written to w: NO_COLOR
// (no-color.org) counts unless --color says otherwise.
func (e *env) colored(w io.Writer) bool {
	switch e.color {
	case "always":
		return true
	case "never":
		return false
	}
	return isTerminal(w) && e.getenv("NO_COLOR") == "" && e.getenv("TERM") != "dumb"
}

// red marks text that needs attention on w.
func (e *env) red(w io.Writer, text string) string {
	if !e.colored(w) {
		return text
	}
	return "\x1b[31m" + text + plainText
}

// plainText ends a colour.
const plainText = "\x1b[0m"
