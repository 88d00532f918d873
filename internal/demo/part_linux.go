// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// Names of the parts that RunPart plays.
const (
	PartClient   = "client"
	PartService  = "service"
	PartAttacker = "attacker"
)

// RunPart plays one part in this process until its input ends or ctx is done:
// setup and orders come from in, messages go to out. The director starts it so.
func RunPart(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	switch name {
	case PartClient:
		return runClient(ctx, in, out)
	case PartService:
		return runService(ctx, in, out)
	case PartAttacker:
		return runAttacker(ctx, in, out)
	}
	return fmt.Errorf("the demo has no part %q", name)
}

// process is one part, or the edge, running in a namespace.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr tail

	ready   chan struct{} // closed by its first Ready
	stopped chan struct{} // closed by its Stopped
	ended   chan struct{} // closed at its end, err is set then
	err     error
}

// start starts a process. hear gets its messages, one after another; nil for a
// process that sends none. It is killed when the namespace closes.
func start(ns *lab.Namespace, name string, cmd *exec.Cmd, hear func(Message)) (*process, error) {
	p := &process{
		name: name, cmd: cmd,
		ready: make(chan struct{}), stopped: make(chan struct{}), ended: make(chan struct{}),
	}
	cmd.Stderr = &p.stderr
	// A group of its own: an interrupt typed at the terminal is for the director,
	// who ends the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	var stdout io.ReadCloser
	if hear != nil {
		if stdout, err = cmd.StdoutPipe(); err != nil {
			return nil, err
		}
	}
	if err := ns.Start(cmd); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		if hear != nil {
			p.listen(stdout, hear)
		}
		p.err = cmd.Wait()
	}()
	return p, nil
}

func (p *process) listen(stdout io.Reader, hear func(Message)) {
	decoder := json.NewDecoder(bufio.NewReader(stdout))
	var ready, stopped sync.Once
	for {
		var m Message
		if decoder.Decode(&m) != nil {
			return // its end; Wait says how
		}
		hear(m)
		if m.Ready {
			ready.Do(func() { close(p.ready) })
		}
		if m.Stopped {
			stopped.Do(func() { close(p.stopped) })
		}
	}
}

// tell sends a part its setup or an order.
func (p *process) tell(message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("the %s does not listen any more: %w", p.name, err)
	}
	return nil
}

// await waits for one of the process's channels.
func (p *process) await(ctx context.Context, what <-chan struct{}, name string, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-what:
		return nil
	case <-p.ended:
		return p.failure()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("the %s is not %s after %v%s", p.name, name, patience, p.stderr.quote())
	}
}

// failure says how a process ended that should not have.
func (p *process) failure() error {
	err := p.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("the %s ended early: %w%s", p.name, err, p.stderr.quote())
}

// finish closes the process's input, asks it to terminate where that alone does
// not end it, and waits.
func (p *process) finish(signal os.Signal, patience time.Duration) error {
	p.stdin.Close()
	if signal != nil {
		_ = p.cmd.Process.Signal(signal) // it may have ended by itself
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("the %s had to be killed: it did not end within %v%s", p.name, patience, p.stderr.quote())
	}
	if p.err != nil {
		return fmt.Errorf("the %s ended with %w%s", p.name, p.err, p.stderr.quote())
	}
	return nil
}

// tail keeps the end of what a process wrote to its standard error.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLen = 4096

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailLen; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

// quote is the last lines, indented, or nothing.
func (t *tail) quote() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := string(bytes.TrimSpace(t.text))
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	if len(lines) > 8 {
		lines = lines[len(lines)-8:]
	}
	return "; its last words:\n  " + strings.Join(lines, "\n  ")
}
