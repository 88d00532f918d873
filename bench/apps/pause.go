// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"sync"
	"time"
)

// meter measures how evenly something comes: it is an io.Writer whose Writes are
// the signs of life.
type meter struct {
	mu      sync.Mutex
	began   time.Time // of the first sign
	last    time.Time
	longest time.Duration
	bytes   int64
}

func (m *meter) Write(p []byte) (int, error) {
	m.alive(len(p))
	return len(p), nil
}

// alive notes a sign of life.
func (m *meter) alive(bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(time.Now())
	m.bytes += int64(bytes)
}

// note is called with mu held.
func (m *meter) note(now time.Time) {
	if m.began.IsZero() {
		m.began = now
	} else {
		m.longest = max(m.longest, now.Sub(m.last))
	}
	m.last = now
}

// begin forgets all pauses so far: it is what comes from now on that counts.
func (m *meter) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began, m.longest = time.Time{}, 0
}

// total is the bytes so far.
func (m *meter) total() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// end stops the clock: it returns the longest pause, and bytes a second.
func (m *meter) end() (pause time.Duration, rate float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.began.IsZero() {
		return 0, 0
	}
	return m.longest, float64(m.bytes) / m.last.Sub(m.began).Seconds()
}

// watchFile has the meter follow how a file grows until stop is called.
func (m *meter) watchFile(path string) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var size int64
		for ended := false; ; {
			if info, err := os.Stat(path); err == nil && info.Size() > size {
				m.alive(int(info.Size() - size))
				size = info.Size()
			}
			if ended {
				return
			}
			select {
			case <-quit:
				ended = true // one look more
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
