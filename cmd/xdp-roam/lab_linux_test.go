// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// Where the two namespaces of a bench are.
var (
	edgeAddr    = netip.MustParseAddr("192.0.2.1")
	clientAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")}
)

// patience is how long a test waits for what must happen, also on a busy machine.
const patience = time.Minute

// labBench is an edge host with a BPF file system of its own and a client
// host, with one wire between them, and the files of both.
type labBench struct {
	t            *testing.T
	edge, client *lab.Namespace
	directory    string
	serverKey    handshake.PrivateKey
	clientKey    handshake.PrivateKey
}

func newLabBench(t *testing.T) *labBench {
	t.Helper()
	testutil.RequirePrivileged(t)
	t.Parallel() // each bench has its own namespaces
	b := &labBench{t: t, directory: t.TempDir(), serverKey: handshake.NewPrivateKey(), clientKey: handshake.NewPrivateKey()}
	b.edge, b.client = b.namespace("edge"), b.namespace("client")
	err := lab.Connect(
		lab.Port{NS: b.edge, Link: "edge0", Addrs: []netip.Prefix{netip.PrefixFrom(edgeAddr, 24)}},
		lab.Port{NS: b.client, Link: "client0", Addrs: []netip.Prefix{netip.PrefixFrom(clientAddrs[0], 24)}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.edge.OwnMounts(); err != nil {
		t.Fatal(err)
	}
	b.writeFiles()
	return b
}

func (b *labBench) writeFiles() {
	b.t.Helper()
	b.write("server.key", b.serverKey)
	b.write("client.key", b.clientKey)
	if err := os.WriteFile(b.path("authorized_keys"), []byte(b.clientKey.Public().String()+" alice\n"), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *labBench) namespace(name string) *lab.Namespace {
	b.t.Helper()
	n, err := lab.NewNamespace(name)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { n.Close() })
	return n
}

func (b *labBench) path(name string) string { return filepath.Join(b.directory, name) }

func (b *labBench) write(name string, key handshake.PrivateKey) {
	b.t.Helper()
	text, err := key.MarshalText()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(name), text, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// process is this test binary as xdp-roam, in one of the namespaces.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout bytes.Buffer

	mu     sync.Mutex
	stderr bytes.Buffer
	ended  chan struct{}
}

// Write takes what the process says on stderr.
func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(text)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func (b *labBench) start(n *lab.Namespace, args ...string) *process {
	b.t.Helper()
	return b.startProgram(n, b.command(args...))
}

// command is this test binary as xdp-roam, with the bench's files.
func (b *labBench) command(args ...string) *exec.Cmd {
	b.t.Helper()
	program, err := exec.LookPath("xdp-roam") // TestMain put it there
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"--control", b.path("control.sock")}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+b.path("config"))
	return cmd
}

func (b *labBench) startProgram(n *lab.Namespace, cmd *exec.Cmd) *process {
	b.t.Helper()
	p := &process{t: b.t, cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = p
	if cmd.Stdout == nil {
		cmd.Stdout = &p.stdout
	}
	if err := n.Start(cmd); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the exit code is in ProcessState
		close(p.ended)
	}()
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
		if b.t.Failed() {
			b.t.Logf("%s\n%s%s", strings.Join(cmd.Args, " "), p.stdout.String(), p.said())
		}
	})
	return p
}

// exit waits for the end and returns the exit code; -1 is death by a signal.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("%v does not end", p.cmd.Args)
		return 0
	}
}

func (p *process) stop(signal syscall.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	return p.exit()
}

// waitFor waits until the process has said part.
func (p *process) waitFor(part string) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("%s says %q", p.cmd.Args[3], part), func() bool {
		select {
		case <-p.ended:
			if !strings.Contains(p.said(), part) {
				p.t.Fatalf("%v ended with %v before it said %q:\n%s", p.cmd.Args, p.cmd.ProcessState, part, p.said())
			}
		default:
		}
		return strings.Contains(p.said(), part)
	})
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}

// run runs a short command at the edge and returns its exit code and output.
func (b *labBench) run(args ...string) (code int, stdout, stderr string) {
	b.t.Helper()
	p := b.start(b.edge, args...)
	code = p.exit()
	return code, p.stdout.String(), p.said()
}

// items runs a command at the edge with -o json and returns what it lists.
func items[T any](b *labBench, args ...string) []T {
	b.t.Helper()
	code, stdout, stderr := b.run(append(args, "-o", "json")...)
	var document control.Document[T]
	if err := json.Unmarshal([]byte(stdout), &document); code != exitOK || err != nil {
		b.t.Fatalf("%v: exit code %d, %v\n%s%s", args, code, err, stdout, stderr)
	}
	return document.Items
}

// startEdge starts `run` with the bench's files and waits until it is ready.
func (b *labBench) startEdge(args ...string) *process {
	b.t.Helper()
	p := b.start(b.edge, b.edgeArgs(args...)...)
	p.waitFor("ready: ")
	return p
}

func (b *labBench) edgeArgs(args ...string) []string {
	if !slices.Contains(args, "--service") {
		args = append(args, "--service", "7=echo:")
	}
	return append([]string{
		"run", "--key-file", b.path("server.key"), "--state-dir", b.path("state"), "--table-slots", "4096",
		"--authorized-keys", b.path("authorized_keys"),
	}, args...)
}

// startClient starts `connect` and waits until it forwards.
func (b *labBench) startClient(args ...string) *process {
	b.t.Helper()
	p := b.start(b.client, append([]string{
		"connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--identity", b.path("client.key"), "--udp",
	}, args...)...)
	p.waitFor("forwards to service")
	return p
}

// startEcho starts an edge with these flags, a client of its echo service, and a local
// program that has been answered through it.
func (b *labBench) startEcho(edgeArgs ...string) (edge, client *process, program *net.UDPConn) {
	b.t.Helper()
	edge = b.startEdge(edgeArgs...)
	client = b.startClient("-L", "5007:7")
	program = b.program(5007)
	ask(b.t, program, "before")
	return edge, client, program
}

// program is a local program at the client that speaks to port.
func (b *labBench) program(port uint16) *net.UDPConn {
	b.t.Helper()
	var conn *net.UDPConn
	err := b.client.Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)))
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends text until an answer to it comes, and returns that: datagrams may
// be lost while a client moves.
func ask(t *testing.T, conn *net.UDPConn, text string) string {
	t.Helper()
	buffer := make([]byte, 100)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := conn.Write([]byte(text)); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				break
			}
			if answer := string(buffer[:n]); strings.Contains(answer, text) {
				return answer
			}
		}
	}
	t.Fatalf("no answer to %q", text)
	return ""
}

// pinned lists what lies in the edge's BPF file system.
func (b *labBench) pinned() []string {
	b.t.Helper()
	var left []string
	err := b.edge.Do(func() error {
		return filepath.WalkDir("/sys/fs/bpf", func(path string, _ os.DirEntry, err error) error {
			// The kernel's own, in every BPF file system.
			if path != "/sys/fs/bpf" && !strings.HasSuffix(path, ".debug") {
				left = append(left, path)
			}
			return err
		})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return left
}

// nothingLeft fails the test if a command left something at the edge.
func (b *labBench) nothingLeft() {
	b.t.Helper()
	if left := b.pinned(); len(left) > 0 {
		b.t.Errorf("left pinned: %q", left)
	}
	if mode, err := b.edge.XDP("edge0"); err != nil || mode != "" {
		b.t.Errorf("XDP on edge0 is %q, %v; want none", mode, err)
	}
	for _, pattern := range []string{"control.sock*"} {
		if left, _ := filepath.Glob(b.path(pattern)); len(left) > 0 {
			b.t.Errorf("left: %q", left)
		}
	}
}
