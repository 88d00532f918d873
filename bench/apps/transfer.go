// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"time"
)

// transfer is the same file carried again and again.
type transfer struct {
	times int
	bytes int64
	took  time.Duration
	pause time.Duration
}

// watch has carry write a file and measures how that grows.
func (t *transfer) watch(path string, carry func() error) error {
	var m meter
	stop := m.watchFile(path)
	began := time.Now()
	err := carry()
	t.took += time.Since(began)
	stop()
	pause, _ := m.end()
	t.pause = max(t.pause, pause)
	t.bytes += m.total()
	t.times++
	return err
}

func (t *transfer) result(program string, over route, w walk) result {
	return result{
		Program: program, By: over.by, Walk: w, Pause: t.pause, Rate: float64(t.bytes) / t.took.Seconds(),
		Outcome: fmt.Sprintf("%d copies, each with the right checksum", t.times),
	}
}

// closed reports whether a channel is closed.
func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
