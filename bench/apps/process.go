// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// process is a program in one of the namespaces.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	words tail
	ended chan struct{}
	err   error // set before ended is closed
}

// start starts a program; stdout may be nil.
func (s *stage) start(ns *lab.Namespace, stdout io.Writer, name string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.WaitDelay = patience // for children that go on with its output
	p.cmd.Stdout, p.cmd.Stderr = stdout, &p.words
	if stdout == nil {
		p.cmd.Stdout = &p.words
	}
	p.cmd.Env = s.environment
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return p, s.launch(ns, p)
}

// startOnTerminal starts a program on a terminal of its own, whose screen goes to
// out; what is written to stdin is typed.
func (s *stage) startOnTerminal(ns *lab.Namespace, out io.Writer, environment []string, name string, args ...string) (*process, error) {
	master, slave, err := lab.OpenTerminal(80)
	if err != nil {
		return nil, fmt.Errorf("no pseudo terminal: %w", err)
	}
	defer slave.Close()
	p := &process{name: name, cmd: exec.Command(name, args...), ended: make(chan struct{}), stdin: master}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.Env = append(append([]string{"TERM=xterm"}, s.environment...), environment...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.launch(ns, p); err != nil {
		master.Close()
		return nil, err
	}
	go func() { _, _ = io.Copy(io.MultiWriter(out, &p.words), master) }() // until nobody has the terminal open
	return p, nil
}

func (s *stage) launch(ns *lab.Namespace, p *process) error {
	if err := ns.Start(p.cmd); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	s.mu.Lock()
	s.processes = append(s.processes, p)
	s.mu.Unlock()
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// wait waits for the end of a program that ends by itself.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return p.failure()
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("%s: %w%s", p.name, context.Cause(ctx), p.words.quote())
	}
}

// failure is nil after a success.
func (p *process) failure() error {
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w%s", p.name, p.err, p.words.quote())
}

// stop asks the program to end, and sees to it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		p.kill()
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// dead reports whether the program has ended.
func (p *process) dead() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// run runs a program to its end and returns what it writes to stdout.
func (s *stage) run(ctx context.Context, ns *lab.Namespace, name string, args ...string) (string, error) {
	var out bytes.Buffer
	p, err := s.start(ns, &out, name, args...)
	if err != nil {
		return "", err
	}
	p.stdin.Close()
	err = p.wait(ctx)
	return out.String(), err
}

// until polls a condition.
func until(ctx context.Context, what string, patience time.Duration, done func() bool) error {
	for end := time.Now().Add(patience); !done(); {
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v", what, patience)
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// killAll kills what is left in our namespaces: servers leave children of their
// own, which belong to no process of ours.
func killAll(namespaces ...*lab.Namespace) error {
	ours := map[string]bool{}
	for _, n := range namespaces {
		if err := n.Do(func() error {
			name, err := os.Readlink("/proc/thread-self/ns/net")
			ours[name] = true
			return err
		}); err != nil {
			return err
		}
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return err
	}
	for _, link := range links {
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil || pid == os.Getpid() {
			continue
		}
		if name, err := os.Readlink(link); err == nil && ours[name] {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// tail keeps the end of what a program says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - 1<<16; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

func (t *tail) contains(part string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Contains(t.text, []byte(part))
}

func (t *tail) all() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// quote is the last lines, or nothing.
func (t *tail) quote() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return "; its last words:\n  " + strings.Join(lines[max(0, len(lines)-8):], "\n  ")
}
