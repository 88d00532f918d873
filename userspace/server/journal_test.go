// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// pipe is a log whose reader can stand still.
type pipe struct {
	reader sync.Mutex // held: it does
	mu     sync.Mutex
	buf    bytes.Buffer
}

func (p *pipe) Write(b []byte) (int, error) {
	p.reader.Lock()
	defer p.reader.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.Write(b)
}

func (p *pipe) count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.buf.String(), what)
}

func (p *pipe) log() *slog.Logger { return slog.New(slog.NewTextHandler(p, nil)) }

// A log that nobody reads holds up nobody: sessions open, speak and close, and so
// does the server. What was lost is told when the reader is back.
func TestLogStandsStill(t *testing.T) {
	t.Parallel()
	var p pipe
	srv := listen(t, func(c *Config) { c.Log = p.log() })
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	p.reader.Lock()
	other := dial(t, srv, "127.0.0.1", nil)
	talk(t, accept(t, srv), other, "a new session")
	talk(t, s, c, "an old session")
	for range journalLines + 10 {
		srv.cfg.Log.Info("more than there is room for")
	}
	dropped := srv.Stats().LogDropped
	if dropped < 10 {
		t.Errorf("%d lines were dropped", dropped)
	}
	p.reader.Unlock()
	eventually(t, "the log says what it lacks", func() bool { return p.count(fmt.Sprintf("log_lines_dropped lines=%d\n", dropped)) == 1 })
	if n := p.count("msg=session_opened"); n != 2 {
		t.Errorf("%d sessions were logged", n)
	}

	p.reader.Lock()
	defer p.reader.Unlock()
	start := time.Now()
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < journalWait || took > journalWait+goodbyeWait+10*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// All that is logged before the end is written, under the names that it came with.
func TestJournal(t *testing.T) {
	var p pipe
	j := newJournal(p.log().Handler())
	log := slog.New(j).With("a", 1).WithGroup("g")
	for i := range 100 {
		log.Info("line", "b", i)
	}
	log.Debug("below the level")
	j.close()
	j.close()
	for i := range 100 {
		if p.count(fmt.Sprintf("msg=line a=1 g.b=%d\n", i)) != 1 {
			t.Errorf("line %d is missing", i)
		}
	}
	if p.count("level=") != 100 {
		t.Errorf("%d lines", p.count("level="))
	}
}

// How much is logged of a session's moves is not for its client to decide; how
// much is counted is.
func TestMovesFloodNoLog(t *testing.T) {
	var p pipe
	srv := listen(t, func(c *Config) { c.Log = p.log() })
	dial(t, srv, "127.0.0.1", nil)
	flooder := accept(t, srv)
	dial(t, srv, "127.0.0.1", nil)
	bystander := accept(t, srv)
	now := srv.clock.now()
	event := func(s *Session, now session.Time, kind session.EventKind) {
		var out session.Output
		s.mu.Lock()
		defer s.mu.Unlock()
		s.event(now, &session.Event{Kind: kind, Path: s.state.Path(), From: s.state.Path()}, &out)
	}
	const moves = 1000
	for range moves {
		event(flooder, now, session.EventMoveStarted)
		event(flooder, now, session.EventMoveRefused)
		event(flooder, now, session.EventForwardingAlarm)
	}
	event(flooder, now+time.Second/moveRate, session.EventMoveReverted)
	event(bystander, now, session.EventMoveCommitted)
	st := srv.Stats()
	if st.RoamsStarted != moves || st.RoamsRefused != moves || st.ForwardingAlarms != moves {
		t.Errorf("stats %+v", st)
	}
	if st.LogDropped != 3*moves-moveBurst {
		t.Errorf("%d lines dropped", st.LogDropped)
	}
	srv.Close()
	if n := p.count("roam_started") + p.count("roam_refused") + p.count("forwarding_alarm"); n != moveBurst {
		t.Errorf("%d lines of a flood, want %d", n, moveBurst)
	}
	if p.count("roam_reverted") != 1 || p.count("roam_committed") != 1 {
		t.Error("a second later, or of another session, nothing is logged")
	}
}
