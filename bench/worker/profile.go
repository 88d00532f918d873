// SPDX-License-Identifier: Apache-2.0

//go:build linux

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/xdp-roam/xdp-roam/bench/edge"
)

// Profile writes CPU profiles of a worker that opens datagrams of 64 and of 1400 bytes
// to dir, each over some time. The client's part is in them too: what the worker does
// is under (*reader).run of package server.
func Profile(ctx context.Context, dir string, each time.Duration) ([]string, error) {
	var files []string
	for _, g := range goals {
		name := filepath.Join(dir, fmt.Sprintf("worker-%d.prof", g.size))
		if err := profile(ctx, name, g.size, each); err != nil {
			return files, err
		}
		files = append(files, name)
	}
	return files, nil
}

func profile(ctx context.Context, name string, size int, each time.Duration) (err error) {
	l, err := edge.NewLoopback(ctx, 1, size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	read(l)
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	for end := time.Now().Add(each); time.Now().Before(end); {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, _, err := l.Play(1, size); err != nil {
			return err
		}
	}
	return nil
}
