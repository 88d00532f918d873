// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// topBench drives the model as bubbletea would, with messages alone.
type topBench struct {
	t     *testing.T
	model *topModel
	asked control.SessionQuery // by the last look
	looks int
	fails error
}

func newTopBench(t *testing.T) *topBench {
	e, _, _ := testEnv(formatTable)
	b := &topBench{t: t}
	shown := exampleDaemon()
	sample := func(_ context.Context, q control.SessionQuery) (topSample, error) {
		b.looks++
		b.asked = q
		// A second between two looks, and ten times as many packets in each.
		s := topSample{at: time.Unix(int64(b.looks), 0), status: shown.status, sessions: slices.Clone(shown.sessions), workers: slices.Clone(shown.workers)}
		for _, c := range append(shown.counters, control.Counter{Stage: "server", Verdict: "event", Reason: "roams_committed", Value: 5}) {
			c.Value *= uint64(b.looks)
			s.counters = append(s.counters, c)
		}
		s.workers[1].Packets *= uint64(b.looks)
		return s, b.fails
	}
	b.model = &topModel{env: e, ctx: t.Context(), sample: sample, query: control.SessionQuery{Sort: "last-move"}, interval: time.Second}
	b.send(tea.WindowSizeMsg{Width: 100, Height: 30})
	return b
}

func (b *topBench) send(msg tea.Msg) tea.Cmd {
	_, cmd := b.model.Update(msg)
	return cmd
}

// look does what the program does when it is time to.
func (b *topBench) look() { b.send(b.model.look()()) }

// press is a key.
func (b *topBench) press(key string) tea.Cmd {
	k := tea.Key{Text: key, Code: []rune(key)[0]}
	if key == " " {
		k = tea.Key{Code: tea.KeySpace, Text: " "}
	}
	return b.send(tea.KeyPressMsg(k))
}

func (b *topBench) wants(what string, parts ...string) {
	b.t.Helper()
	screen := b.model.View().Content
	for _, part := range parts {
		if !strings.Contains(screen, part) {
			b.t.Errorf("%s: the screen lacks %q:\n%s", what, part, screen)
		}
	}
}

func TestTopModel(t *testing.T) {
	b := newTopBench(t)
	b.wants("before anything", "asking the daemon", "q quit")
	b.look()
	b.wants("after one look", "sessions      2 (+0/s", "xdp 0", "alice", "ffeeddccbbaa", "by last-move", "up 1h0m")
	b.look()
	b.wants("after two", "xdp 12, socket 0, server 3.0", "committed 5.0", "id_forged             12          24", "300         0           100%")
	if !b.model.View().AltScreen {
		t.Error("it draws over what was on the screen")
	}

	for key, order := range topKeys {
		b.press(key)
		b.look()
		if b.asked.Sort != order || b.asked.Limit != 30 || b.asked.Check() != nil {
			t.Errorf("key %s asks for %+v", key, b.asked)
		}
		b.wants("key "+key, "sessions by "+order)
	}
	b.press("r")
	b.look()
	if !b.asked.Reverse {
		t.Error("r does not reverse")
	}
	b.wants("reversed", ", reversed")
	b.press("+")
	b.press("-")
	b.press("-")
	if b.model.interval != 500*time.Millisecond {
		t.Errorf("interval %v", b.model.interval)
	}
	for range 10 {
		b.press("-")
	}
	if b.model.interval != minInterval {
		t.Errorf("least interval %v", b.model.interval)
	}

	b.press(" ")
	before := b.model.now.at
	b.look()
	if b.model.now.at != before {
		t.Error("it goes on while paused")
	}
	b.wants("paused", "paused: space goes on")
	b.press(" ")
	b.fails = errors.New("no daemon is running")
	b.look()
	b.wants("without the daemon", "no daemon is running", "alice") // what it knew stays
	b.fails = nil
	b.look()
	if b.model.err != nil {
		t.Error("it does not come back")
	}
	for _, key := range []tea.Key{{Text: "q", Code: 'q'}, {Code: tea.KeyEscape}, {Code: 'c', Mod: tea.ModCtrl}} {
		cmd := b.send(tea.KeyPressMsg(key))
		if cmd == nil {
			t.Fatalf("%v does not end it", key)
		}
		if _, quit := cmd().(tea.QuitMsg); !quit {
			t.Errorf("%v does not end it", key)
		}
	}
}

// Whatever the window's size, the picture fits into it, and its last line is the help.
func TestTopFits(t *testing.T) {
	for _, size := range []tea.WindowSizeMsg{{Width: 20, Height: 5}, {Width: 300, Height: 100}, {Width: 1, Height: 1}, {Width: 80, Height: 24}} {
		b := newTopBench(t)
		b.send(size)
		b.look()
		lines := strings.Split(b.model.View().Content, "\n")
		if len(lines) != size.Height || !strings.HasPrefix(topHelp, lines[len(lines)-1]) {
			t.Errorf("%+v: %d lines, the last is %q", size, len(lines), lines[len(lines)-1])
		}
		for _, line := range lines {
			if width(line) > size.Width {
				t.Errorf("%+v: a line of %d: %q", size, width(line), line)
			}
		}
	}
}

// The daemon's sessions are asked for again only when that takes little of the time,
// or when another order is wanted.
func TestTopSampler(t *testing.T) {
	s := topSampler{client: control.NewClient(daemon(t, exampleDaemon()))}
	look := func(q control.SessionQuery) topSample {
		t.Helper()
		sample, err := s.sample(t.Context(), q)
		if err != nil || len(sample.sessions) != 2 || len(sample.workers) != 2 || len(sample.counters) != 2 {
			t.Fatalf("%v: %+v", err, sample)
		}
		return sample
	}
	q := control.SessionQuery{Sort: "moves", Limit: 10}
	look(q)
	s.next = time.Now().Add(time.Hour) // as if it had taken minutes
	s.sessions[0].Moves = 77
	if look(q).sessions[0].Moves != 77 {
		t.Error("the sessions are asked for all the same")
	}
	q.Reverse = true
	if look(q).sessions[1].Moves == 77 {
		t.Error("another order does not ask for them")
	}
}

// Once on a terminal: it draws, takes keys, and leaves.
func TestTopOnTerminal(t *testing.T) {
	master, slave, err := lab.OpenTerminal(200)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	program, err := exec.LookPath("xdp-roam") // TestMain put it there
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--control", daemon(t, exampleDaemon()), "top", "--interval", "100ms")
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=1")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var mu sync.Mutex
	var screen bytes.Buffer
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			mu.Lock()
			screen.Write(buffer[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	shows := func(part string) {
		t.Helper()
		until(t, "the screen shows "+part, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(screen.String(), part)
		})
	}
	shows("sessions by last-move")
	shows("alice")
	if _, err := master.WriteString(" "); err != nil {
		t.Fatal(err)
	}
	shows("paused")
	if _, err := master.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil || stderr.Len() > 0 {
			t.Errorf("%v: %s", err, &stderr)
		}
	case <-time.After(patience):
		t.Fatal("q does not end it")
	}
}
