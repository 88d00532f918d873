// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// build makes the program that the demo is a command of.
func build(t *testing.T) (binary string) {
	t.Helper()
	testutil.RequirePrivileged(t)
	directory := t.TempDir()
	for d := directory; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // also for who is not root
			t.Fatal(err)
		}
	}
	binary = filepath.Join(directory, "xdp-roam")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/xdp-roam").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// shortTempDir is t.TempDir with a name that leaves room for a socket's.
func shortTempDir(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	return directory
}

// running is a demo in its own process.
type running struct {
	cmd      *exec.Cmd
	progress *bufio.Reader
}

func play(t *testing.T, binary, temporary string) *running {
	t.Helper()
	cmd := exec.Command(binary, "demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return &running{cmd, bufio.NewReader(stderr)}
}

// until reads progress up to a line with the text, and returns all of it.
func (r *running) until(t *testing.T, text string) string {
	t.Helper()
	var all strings.Builder
	for {
		line, err := r.progress.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			t.Fatalf("the demo ended before it said %q:\n%s", text, all.String())
		}
		if strings.Contains(line, text) {
			return all.String()
		}
	}
}

// end sends a signal and waits; it returns what was said last.
func (r *running) end(signal os.Signal) (string, error) {
	r.cmd.Process.Signal(signal)
	rest, _ := io.ReadAll(r.progress)
	return string(rest), r.cmd.Wait()
}

// held finds the network namespaces that processes with this executable hold,
// other than ours.
func held(t *testing.T, binary string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, p := range processes(t, binary) {
		tasks, err := filepath.Glob("/proc/" + p + "/task/*/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if name, err := os.Readlink(task); err == nil {
				all[name] = true
			}
		}
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	delete(all, own)
	return all
}

// processes are those that run the executable.
func processes(t *testing.T, binary string) (found []string) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil && target == binary {
			found = append(found, filepath.Base(filepath.Dir(name)))
		}
	}
	return found
}

// gone waits until nobody holds the namespaces and no process is left.
func gone(t *testing.T, binary string, namespaces map[string]bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := processes(t, binary)
		var holders []string
		tasks, err := filepath.Glob("/proc/[0-9]*/task/*/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if name, err := os.Readlink(task); err == nil && namespaces[name] {
				holders = append(holders, task)
			}
		}
		if len(left)+len(holders) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left: processes %v, holders of its namespaces %v", left, holders)
		}
	}
}

func entries(t *testing.T, directory string) []os.DirEntry {
	t.Helper()
	all, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAnInterruptedDemoLeavesNothing(t *testing.T) {
	binary, temporary := build(t), shortTempDir(t)
	r := play(t, binary, temporary)
	r.until(t, "session open")
	namespaces := held(t, binary)
	if len(namespaces) < 7 {
		t.Errorf("only %d namespaces while the demo runs: %v", len(namespaces), namespaces)
	}
	said, err := r.end(os.Interrupt)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(said, "interrupted") {
		t.Errorf("interrupted: %v\n%s", err, said)
	}
	gone(t, binary, namespaces)
	if left := entries(t, temporary); len(left) != 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

func TestAKilledDemoLeavesFilesAloneAndTheNextRemovesThem(t *testing.T) {
	binary, temporary := build(t), shortTempDir(t)
	r := play(t, binary, temporary)
	r.until(t, "session open")
	namespaces := held(t, binary)
	if _, err := r.end(os.Kill); err == nil {
		t.Error("killed, and no error")
	}
	gone(t, binary, namespaces)
	left := entries(t, temporary)
	if len(left) != 1 {
		t.Fatalf("left in the temporary directory: %v", left)
	}
	r = play(t, binary, temporary)
	r.until(t, "removed what 1 killed run")
	r.until(t, "session open")
	if now := entries(t, temporary); len(now) != 1 || now[0].Name() == left[0].Name() {
		t.Errorf("while the next one runs: %v, left before: %v", now, left)
	}
	r.end(os.Interrupt)
}

// A part that dies ends the demo with what it said last, and nothing is left.
func TestADemoWhoseEdgeDiesSaysSo(t *testing.T) {
	binary, temporary := build(t), shortTempDir(t)
	r := play(t, binary, temporary)
	r.until(t, "session open")
	namespaces := held(t, binary)
	for _, p := range processes(t, binary) {
		if line, err := os.ReadFile("/proc/" + p + "/cmdline"); err == nil && bytes.Contains(line, []byte("\x00run\x00")) {
			var pid int
			fmt.Sscan(p, &pid)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	rest, _ := io.ReadAll(r.progress)
	var exit *exec.ExitError
	if err := r.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v", err)
	}
	if !strings.Contains(string(rest), "the edge ended early: signal: killed") {
		t.Errorf("said:\n%s", rest)
	}
	gone(t, binary, namespaces)
	if left := entries(t, temporary); len(left) != 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

func TestTheDemoNeedsRoot(t *testing.T) {
	binary := build(t)
	for _, args := range [][]string{{"demo"}, {"demo", "--json"}} {
		cmd := exec.Command(binary, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 4 {
			t.Errorf("%v: %v, want exit status 4", args, err)
		}
		for _, want := range []string{"needs root", "sudo"} {
			if !bytes.Contains(out, []byte(want)) {
				t.Errorf("%v: no %q in:\n%s", args, want, out)
			}
		}
	}
}
