// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// machine is a set of namespaces with a systemd as process 1 (testdata/machine.sh).
type machine struct {
	t    *testing.T
	init string // its process 1, as the host counts
	log  string // a file that is shown when the test fails
}

// patience is how long a test waits for what must happen. To install a package, or for
// a systemd to be up, a busy machine needs some of it.
const patience = 3 * time.Minute

func newMachine(t *testing.T) *machine {
	t.Helper()
	testutil.RequirePrivileged(t)
	for _, tool := range []string{"unshare", "nsenter", "pivot_root", "dpkg", "systemctl", "ip", "man", "adduser", "/usr/lib/systemd/systemd"} {
		if _, err := exec.LookPath(tool); err != nil {
			testutil.SkipOrFail(t, "installing a package needs "+tool)
		}
	}
	group := newControlGroup(t)
	script, err := filepath.Abs("testdata/machine.sh")
	if err != nil {
		t.Fatal(err)
	}
	// The shell enters the group before the namespaces are made: its root is theirs.
	start := fmt.Sprintf("echo $$ > %s/cgroup.procs; exec unshare --mount --pid --net --cgroup --ipc --uts --fork --kill-child sh %s %s", group, script, t.TempDir())
	cmd := exec.Command("sh", "-c", start)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it process 1, and with that all
		_ = cmd.Wait()
	})
	m := &machine{t: t}
	m.until("systemd is up", func() bool {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		m.init = strings.TrimSpace(string(children))
		if m.init == "" {
			return false
		}
		out, _ := m.command("systemctl", "is-system-running").Output()
		state := strings.TrimSpace(string(out))
		return state == "running" || state == "degraded"
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", said.String())
			if m.log != "" {
				out, _ := m.command("sh", "-c", "systemctl status xdp-roam; cat "+m.log).CombinedOutput()
				t.Logf("%s", out)
			}
		}
	})
	return m
}

// put copies a file of the host's to the machine, which has a /tmp of its own.
func (m *machine) put(file, name string) {
	m.t.Helper()
	f, err := os.Open(file)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	cmd := m.command("sh", "-c", "cat > "+name)
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// newControlGroup makes a control group for the machine, and removes it with all that
// its systemd has made in it.
func newControlGroup(t *testing.T) string {
	t.Helper()
	base := "/sys/fs/cgroup"
	if _, err := os.Stat(base + "/cgroup.controllers"); err != nil {
		base += "/systemd" // version 1
	}
	group, err := os.MkdirTemp(base, "xdp-roam-test-")
	if err != nil {
		testutil.SkipOrFail(t, "a systemd needs a control group: "+err.Error())
	}
	t.Cleanup(func() {
		var left error
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			var groups []string
			_ = filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					groups = append(groups, path)
				}
				return nil
			})
			slices.Reverse(groups)
			for _, one := range groups {
				left = syscall.Rmdir(one)
			}
			if left == nil {
				return
			}
		}
		t.Errorf("the control group is left: %v", left)
	})
	return group
}

// command is a command on the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	m.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", m.init, "--mount", "--pid", "--net", "--cgroup", "--ipc", "--uts", "--root", "--",
	}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// run runs a command on the machine, which must succeed, and returns what it prints.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	cmd := m.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// want checks that text holds each part.
func (m *machine) want(text string, parts ...string) {
	m.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			m.t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

func (m *machine) until(what string, f func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if f() {
			return
		}
	}
	m.t.Fatalf("never happened: %s", what)
}
