// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"context"
	"runtime"
)

func runDemo(context.Context, *env, demoFlags) error {
	return &fault{
		code: exitPermission, what: "the demo needs Linux, for network namespaces and XDP; this is " + runtime.GOOS,
		fix: "run it in a Linux virtual machine, as root",
	}
}

func runDemoPart(ctx context.Context, e *env, _ string) error { return runDemo(ctx, e, demoFlags{}) }
