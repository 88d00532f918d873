// SPDX-License-Identifier: Apache-2.0

// Package examples tests that the example programs beside it do what they say.
package examples

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is when a program that is still there has failed.
const patience = 2 * time.Minute

// build compiles the examples and xdp-roam into a directory.
func build(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	cmd := exec.Command("go", "build", "-o", directory+string(filepath.Separator), "./...", "../cmd/xdp-roam")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return directory
}

// program is one that runs. It is killed at the end of the test, or when that has
// lost its patience.
type program struct {
	t     *testing.T
	in    io.WriteCloser
	lines *bufio.Scanner
}

func start(t *testing.T, path string, args ...string) *program {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &program{t, in, bufio.NewScanner(out)}
}

// line is what the program says next.
func (p *program) line() string {
	p.t.Helper()
	if !p.lines.Scan() {
		p.t.Fatal("the program has ended, or says nothing")
	}
	return p.lines.Text()
}

// server starts an example that prints where it is, and its key.
func server(t *testing.T, path string, args ...string) (address, key string) {
	t.Helper()
	address, key, ok := strings.Cut(start(t, path, args...).line(), " ")
	if !ok {
		t.Fatalf("%s prints neither address nor key", path)
	}
	return address, key
}

func TestChat(t *testing.T) {
	bin := build(t)
	address, key := server(t, filepath.Join(bin, "chat"), "127.0.0.1:0")
	join := func() *program {
		p := start(t, filepath.Join(bin, "xdp-roam"), "connect", address, "-W", "7", "--server-key", key)
		fmt.Fprintln(p.in, "here I am")
		if got := p.line(); !strings.HasSuffix(got, ": here I am") {
			t.Fatalf("the room says %q", got)
		}
		return p
	}
	one, other := join(), join()
	one.line() // that the other is here
	fmt.Fprintln(other.in, "hello")
	for _, p := range []*program{one, other} {
		if got := p.line(); !strings.HasSuffix(got, ": hello") {
			t.Errorf("a member reads %q", got)
		}
	}
}

func TestSendfile(t *testing.T) {
	bin, into := build(t), t.TempDir()
	data := make([]byte, 5_000_000)
	_, _ = rand.Read(data)
	path := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	address, key := server(t, filepath.Join(bin, "recvfile"), "127.0.0.1:0", into)
	send := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "sendfile"), address, key, path).CombinedOutput()
		return string(out), err
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	if out, err := send(); err != nil || out != sum+"\n" {
		t.Errorf("%v: %q", err, out)
	}
	got, err := os.ReadFile(filepath.Join(into, "data"))
	if err != nil || fmt.Sprintf("%x", sha256.Sum256(got)) != sum {
		t.Errorf("%d bytes arrived, or others: %v", len(got), err)
	}
	// What is there already stays.
	if out, err := send(); err == nil || !strings.Contains(out, "file exists") {
		t.Errorf("%v: %q", err, out)
	}
}
