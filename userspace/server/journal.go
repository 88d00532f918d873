// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
)

const (
	// journalLines bounds the lines that wait to be written.
	journalLines = 1024
	// journalWait bounds how long Close waits for them.
	journalWait = time.Second

	// moveRate and moveBurst bound the lines and events about the moves of one
	// session: how often it moves, and so how often there is something to say, is its
	// client's choice. movesRate and movesBurst bound the lines of all sessions. Each
	// second.
	moveRate, moveBurst   = 1, 16
	movesRate, movesBurst = 100, 1000
)

// journal is a slog.Handler that never makes its caller wait. Whoever reads the
// log may be slow or stand still, while those who write to it carry every session's
// packets: one goroutine does the waiting, and what it does not keep up with is
// dropped and counted.
type journal struct {
	slog.Handler // whom lines are for
	*journalQueue
}

// journalQueue is what a journal shares with those made of it by With and WithGroup.
type journalQueue struct {
	lines   chan journalLine
	stop    chan struct{} // closed when no further line is to be waited for
	done    chan struct{} // closed when the last one is written
	once    sync.Once
	missing atomic.Uint64 // dropped since the last line that said so
	dropped atomic.Uint64 // in all
}

type journalLine struct {
	to     slog.Handler
	record slog.Record
}

// newJournal starts a journal; close ends it.
func newJournal(h slog.Handler) *journal {
	q := &journalQueue{
		lines: make(chan journalLine, journalLines), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go q.write(h)
	return &journal{h, q}
}

// Handle implements slog.Handler.
func (j *journal) Handle(_ context.Context, r slog.Record) error {
	select {
	case j.lines <- journalLine{j.Handler, r.Clone()}:
	default:
		j.missing.Add(1)
		j.dropped.Add(1)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journal{j.Handler.WithAttrs(attrs), j.journalQueue}
}

// WithGroup implements slog.Handler.
func (j *journal) WithGroup(name string) slog.Handler {
	return &journal{j.Handler.WithGroup(name), j.journalQueue}
}

// write writes the lines until stop, and then those that are left.
func (q *journalQueue) write(h slog.Handler) {
	defer close(q.done)
	for {
		select {
		case l := <-q.lines:
			q.put(h, l)
		case <-q.stop:
			for {
				select {
				case l := <-q.lines:
					q.put(h, l)
				default:
					return
				}
			}
		}
	}
}

func (q *journalQueue) put(h slog.Handler, l journalLine) {
	ctx := context.Background()
	_ = l.to.Handle(ctx, l.record) // there is nobody to tell that nobody can be told
	if n := q.missing.Swap(0); n > 0 {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "log_lines_dropped", 0)
		r.AddAttrs(slog.Uint64("lines", n))
		_ = h.Handle(ctx, r)
	}
}

// close returns when all lines are written or have had their time. Later ones may
// get lost.
func (q *journalQueue) close() {
	q.once.Do(func() { close(q.stop) })
	select {
	case <-q.done:
	case <-time.After(journalWait):
	}
}

// mayLog reports whether there may be another line about what mayTell has let pass.
// The caller holds s.mu.
func (s *Session) mayLog(now session.Time, level slog.Level) bool {
	if !s.srv.cfg.Log.Enabled(context.Background(), level) {
		return false
	}
	if s.srv.moveLines.take(now) {
		return true
	}
	s.srv.journal.dropped.Add(1)
	return false
}
