// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/demo"
)

const demoPrivileges = "run it as root (sudo), in a container with --privileged"

func runDemo(ctx context.Context, e *env, flags demoFlags) error {
	if os.Geteuid() != 0 {
		return &fault{
			code: exitPermission, what: "the demo needs root: it creates network namespaces and loads an XDP program",
			fix: demoPrivileges,
		}
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program, to start the demo's processes: %w", err)
	}
	report, err := demo.Run(ctx, demo.Config{
		Binary: binary, Rate: flags.rate, Pause: flags.pause, Mode: flags.mode,
		Progress: func(at time.Duration, line string) {
			fmt.Fprintf(e.stderr, "%5.1fs  %s\n", at.Seconds(), line)
		},
	})
	switch {
	case canceled(ctx, err):
		return &fault{code: exitFailure, what: "the demo was interrupted; everything that it created was removed"}
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return &fault{code: exitPermission, what: "the demo lacks permissions", err: err, fix: demoPrivileges}
	case err != nil:
		f := &fault{what: "the demo failed", err: err}
		if part := (*exec.ExitError)(nil); errors.As(err, &part) && part.ExitCode() > exitFailure {
			f.code = part.ExitCode() // the edge's own: 5 for a kernel that cannot do it
		}
		return f
	}
	if e.format.isJSON() {
		err = writeJSON(e.stdout, e.format, demo.Kind, []*demo.Report{report})
	} else {
		err = report.Write(e.stdout)
	}
	if err != nil {
		return err
	}
	if failed := report.Failed(); failed > 0 {
		return &fault{code: exitFailure, what: fmt.Sprintf("%d of %d expectations failed", failed, len(report.Expectations))}
	}
	return nil
}

func runDemoPart(ctx context.Context, e *env, name string) error {
	return demo.RunPart(ctx, name, e.stdin, e.stdout)
}
