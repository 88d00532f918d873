// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// guide is what the documents' commands must do, by their first words. A
// command that is not listed fails the test: nothing is documented untried.
var guide = []struct {
	begins string
	stays  string   // a command that runs until it is stopped is ready when it says this
	prints []string // what else must be on stdout
	warns  bool     // may end with 1, for what could be better on this machine
}{
	{begins: "make build && install "},
	{begins: "mkdir "},
	{begins: "cd "},
	{begins: "mountpoint "},
	{begins: "cat > "},
	{begins: "echo "},
	{begins: "xdp-roam keygen "},
	{begins: "xdp-roam run ", stays: "ready: listening on [::]:7626, mode afxdp on eth0 "},
	{begins: "xdp-roam connect ", stays: "forwards to service 7"},
	{begins: "xdp-roam doctor ", prints: []string{"native XDP", "UDP [::]:7626 is free"}, warns: true},
	{begins: "xdp-roam upgrade", prints: []string{"eth0", "exchanged"}},
	{begins: "xdp-roam known list", prints: []string{"edge.example.net:7626"}},
	{begins: "xdp-roam status -o json", prints: []string{`"mode": "afxdp"`}},
	{begins: "xdp-roam status", prints: []string{"afxdp on eth0", "1 of 1 queues", "attached, native", "echo:", "1, half open 0"}},
	{begins: "xdp-roam session list --sort moves", prints: []string{"alice"}},
	{begins: "xdp-roam session list", prints: []string{"alice", clientAddrs[0].String() + ":"}},
	{begins: "xdp-roam stats --verdict drop"},
	{begins: "xdp-roam stats", prints: []string{"xdp", "socket", "server", "main", "sessions_opened"}},
	{begins: "xdp-roam events --kind alarm,refusal"},
	{begins: "xdp-roam config check ", prints: []string{"ok"}},
	{begins: "xdp-roam state rotate", prints: []string{"new ids", "older ids"}},
	{begins: "xdp-roam drain --timeout 10s", prints: []string{"drained"}},
	{begins: "mv "},
	{begins: "sed "},
	{begins: "xdp-roam events", prints: []string{"session_opened", "alice"}},
	{begins: "xdp-roam top -n 1", prints: []string{" on eth0", "sessions by last-move", "alice"}},
	{begins: "xdp-roam map dump slots", prints: []string{"roam", clientAddrs[0].String() + ":"}},
}

// TestDocumentedCommands types what README.md and docs/ say, word for word,
// into bash on two hosts that look like a reader's: eth0, an empty /etc and
// /usr/local, no BPF file system yet, a name for the edge. Two things are not
// the real ones: `make build` runs a Makefile that yields this test binary
// (CI builds the real one), and the test carries the files that the text tells
// the reader to copy.
func TestDocumentedCommands(t *testing.T) {
	for _, tool := range []string{"bash", "make", "install", "mountpoint", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			testutil.SkipOrFail(t, "the documents' commands need "+tool)
		}
	}
	testutil.RequirePrivileged(t)
	t.Parallel()
	d := newDocumented(t)
	var edge, client *process
	for _, file := range documents(t) {
		for _, block := range shellBlocks(t, file) {
			host := d.hosts[block.host]
			if host == nil {
				continue // TestDocumentedTargets, and TestInstalledPackage in packaging
			}
			d.carryKeys()
			for command, p := range host.follow(block) {
				switch {
				case strings.HasPrefix(command, "xdp-roam run "):
					if edge != nil && edge.exit() != exitOK {
						t.Errorf("%s: the edge before ended with %v", block.where, edge.cmd.ProcessState)
					}
					edge = p
				case strings.HasPrefix(command, "xdp-roam connect "):
					client = p
					if answer := ask(t, d.bench.program(7007), "hello"); answer != "hello" {
						t.Errorf("%s: the echo service said %q", block.where, answer)
					}
				}
			}
		}
	}
	if edge == nil || client == nil {
		t.Fatal("the documents no longer start an edge and a client")
	}
	for _, p := range []*process{client, edge} {
		if code := p.stop(syscall.SIGINT); code != exitOK {
			t.Errorf("%s: ended with %d after Ctrl-C", p.cmd.Args[3], code)
		}
	}
	if mode, err := d.bench.edge.XDP("eth0"); err != nil || mode != "" {
		t.Errorf("XDP on eth0 afterwards: %q %v", mode, err)
	}
	if left := d.bench.pinned(); len(left) > 0 {
		t.Errorf("left pinned: %q", left)
	}
}

// documented is the reader's two machines.
type documented struct {
	bench *labBench
	hosts map[string]*documentedHost
}

type documentedHost struct {
	bench     *labBench
	namespace *lab.Namespace
	directory string // where its shell starts
}

func newDocumented(t *testing.T) *documented {
	t.Helper()
	b := &labBench{t: t}
	b.edge, b.client = b.namespace("server"), b.namespace("client")
	err := lab.Connect(
		lab.Port{NS: b.edge, Link: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(edgeAddr, 24)}},
		lab.Port{NS: b.client, Link: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(clientAddrs[0], 24)}},
	)
	if err != nil {
		t.Fatal(err)
	}
	d := &documented{bench: b, hosts: map[string]*documentedHost{
		"server": newDocumentedHost(b, b.edge), "client": newDocumentedHost(b, b.client),
	}}
	server, client := d.hosts["server"], d.hosts["client"]
	program := filepath.Join(server.directory, "built")
	copyProgram(t, program)
	if err := os.WriteFile(filepath.Join(server.directory, "Makefile"), []byte("build:\n\tmkdir -p bin && cp built bin/xdp-roam\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client.shell("install -m 0755 '" + program + "' /usr/local/bin/xdp-roam")
	return d
}

func newDocumentedHost(b *labBench, n *lab.Namespace) *documentedHost {
	b.t.Helper()
	if err := n.OwnMounts(); err != nil {
		b.t.Fatal(err)
	}
	err := n.Do(func() error {
		// The reader mounts it.
		if err := unix.Unmount("/sys/fs/bpf", 0); err != nil {
			return fmt.Errorf("unmounting /sys/fs/bpf: %w", err)
		}
		for _, directory := range []string{"/etc", "/run", "/usr/local", "/var/lib"} {
			if err := unix.Mount("tmpfs", directory, "tmpfs", 0, "mode=0755"); err != nil {
				return fmt.Errorf("mounting an empty %s: %w", directory, err)
			}
		}
		return errors.Join(
			os.Mkdir("/usr/local/bin", 0o755),
			os.WriteFile("/etc/hosts", fmt.Appendf(nil, "127.0.0.1 localhost\n%v edge.example.net\n", edgeAddr), 0o644),
		)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return &documentedHost{bench: b, namespace: n, directory: b.t.TempDir()}
}

// follow types a block's commands into a shell of its own and yields each with
// its process, ended or, if it stays, ready.
func (h *documentedHost) follow(block shellBlock) func(yield func(string, *process) bool) {
	return func(yield func(string, *process) bool) {
		h.bench.t.Helper()
		directory := h.directory
		for _, command := range block.commands {
			if !yield(command, h.enter(block.where, command, &directory)) {
				return
			}
		}
	}
}

// enter types one command in directory, and follows it if the command changes that.
func (h *documentedHost) enter(where, command string, directory *string) *process {
	t := h.bench.t
	t.Helper()
	for _, known := range guide {
		if !strings.HasPrefix(command, known.begins) {
			continue
		}
		if known.stays != "" {
			p := h.start(command, *directory)
			p.waitFor(known.stays)
			return p
		}
		// The last line of what it prints is where the next command is typed.
		typed := command
		if known.warns {
			typed += " || [ $? = 1 ]"
		}
		p := h.start(typed+"\npwd", *directory)
		if code := p.exit(); code != exitOK {
			t.Fatalf("%s: %s\nended with %d:\n%s%s", where, command, code, p.stdout.String(), p.said())
		}
		printed := strings.TrimSuffix(p.stdout.String(), "\n")
		*directory = printed[strings.LastIndexByte(printed, '\n')+1:]
		for _, want := range known.prints {
			if !strings.Contains(printed, want) {
				t.Errorf("%s: %s\ndoes not print %q:\n%s%s", where, command, want, printed, p.said())
			}
		}
		return p
	}
	t.Fatalf("%s: this test does not know what the command should do; tell it in guide: %s", where, command)
	return nil
}

func (h *documentedHost) start(command, directory string) *process {
	cmd := exec.Command("bash", "-eu", "-c", command)
	cmd.Dir = directory
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + h.directory, "LC_ALL=C"}
	return h.bench.startProgram(h.namespace, cmd)
}

// shell runs what the test itself does on the host, and returns its output.
func (h *documentedHost) shell(command string) string {
	h.bench.t.Helper()
	p := h.start(command, h.directory)
	if code := p.exit(); code != exitOK {
		h.bench.t.Fatalf("%s: ended with %d: %s", command, code, p.said())
	}
	return p.stdout.String()
}

// carryKeys copies the public keys that exist to the other side, as the text
// tells the reader to.
func (d *documented) carryKeys() {
	d.bench.t.Helper()
	server, client := d.hosts["server"], d.hosts["client"]
	if key := server.shell("cat /etc/xdp-roam/server.pub 2>/dev/null || true"); key != "" {
		client.shell("echo '" + strings.TrimSpace(key) + "' > server.pub")
	}
	if key := client.shell("cat client.pub 2>/dev/null || true"); key != "" {
		server.shell("echo '" + strings.TrimSpace(key) + "' > /etc/xdp-roam/client.pub")
	}
}
