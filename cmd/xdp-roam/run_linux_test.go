// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// TestRunServesRoamsAndLeavesNothing is the main job through the real commands:
// XDP in the driver, two services, a client that changes its address, and the
// operator's commands that tell the truth meanwhile.
func TestRunServesRoamsAndLeavesNothing(t *testing.T) {
	b := newLabBench(t)
	backend := b.startBackend()
	edge := b.startEdge("--mode", "xdp", "--interface", "edge0", "--service", "7=echo:", "--service", "9=udp://"+backend.String())
	edge.waitFor("mode xdp (native) on edge0 because it was asked for")
	if mode, err := b.edge.XDP("edge0"); err != nil || mode != "native" {
		t.Fatalf("XDP on edge0: %q %v", mode, err)
	}

	client := b.startClient("-L", "5007:7", "-L", "5009:9")
	echo, udp := b.program(5007), b.program(5009)
	if got := ask(t, echo, "hello"); got != "hello" {
		t.Errorf("echo: said %q back", got)
	}
	before := ask(t, udp, "one")

	sessions := b.sessions(2)
	for i, s := range sessions {
		if s.PeerName != "alice" || s.PeerKey != b.clientKey.Public() || s.Service != []uint16{7, 9}[i] ||
			s.Remote.Addr() != clientAddrs[0] || s.Local != netip.AddrPortFrom(edgeAddr, 7626) || s.Moves != 0 {
			t.Errorf("session %d: %+v", i, s)
		}
	}
	b.checkStatus()
	b.checkMaps(sessions)
	b.checkStats("xdp", "pass", "main")
	b.checkStats("socket", "deliver", "main")
	b.checkStats("server", "event", "sessions_opened")

	// The client's address changes; its sessions, and the backend's view of them, stay.
	if err := b.client.DelAddr("client0", netip.PrefixFrom(clientAddrs[0], 24)); err != nil {
		t.Fatal(err)
	}
	if err := b.client.AddAddr("client0", netip.PrefixFrom(clientAddrs[1], 24)); err != nil {
		t.Fatal(err)
	}
	if after := ask(t, udp, "two"); seenBy(after) != seenBy(before) {
		t.Errorf("the backend saw %q before and %q after the move: another session", before, after)
	}
	ask(t, echo, "still there")
	client.waitFor("moved to " + clientAddrs[1].String())
	var moved []control.Session
	until(t, "the edge has committed both moves", func() bool {
		moved = b.sessions(2)
		return moved[0].Moves > 0 && moved[1].Moves > 0
	})
	for i, s := range moved {
		if s.ID != sessions[i].ID || s.Moves != 1 || s.Remote.Addr() != clientAddrs[1] || s.LastMove.IsZero() {
			t.Errorf("session %d after the move: %+v", i, s)
		}
	}
	b.checkMaps(moved)
	b.checkStats("server", "event", "roams_committed")

	if code := client.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("connect ended with %d", code)
	}
	b.sessions(0)
	if code := edge.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("run ended with %d", code)
	}
	b.nothingLeft()
	if code, _, stderr := b.run("status"); code != exitNotLoaded || !strings.Contains(stderr, "no daemon is running") {
		t.Errorf("status afterwards: exit code %d, %s", code, stderr)
	}
}

// seenBy is the address that the backend saw.
func seenBy(answer string) string {
	address, _, _ := strings.Cut(answer, " ")
	return address
}

// startBackend is a UDP service at the edge that says whom it hears, and what.
func (b *labBench) startBackend() netip.AddrPort {
	b.t.Helper()
	conn, err := b.edge.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 2000)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort(fmt.Appendf(nil, "%v %s", from, buffer[:n]), from)
		}
	}()
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

// Whatever goes wrong at the start, nothing stays.
func TestRunThatFailsLeavesNothing(t *testing.T) {
	b := newLabBench(t)
	if err := os.WriteFile(b.path("file"), []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	busy, err := b.edge.ListenUDP(netip.MustParseAddrPort("192.0.2.1:7000"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"no interface":     {[]string{"--mode", "xdp", "--interface", "none0"}, exitFailure, []string{`there is no interface "none0"`, "ip link"}},
		"second interface": {[]string{"--mode", "xdp", "--interface", "edge0", "--interface", "none0"}, exitFailure, []string{`there is no interface "none0"`}},
		"no native XDP":    {[]string{"--mode", "xdp", "--interface", "lo"}, exitUnsupported, []string{"no native XDP", "--mode generic"}},
		"state directory":  {[]string{"--mode", "xdp", "--interface", "edge0", "--state-dir", b.path("file")}, exitFailure, []string{"state secret", "not a directory"}},
		"control socket":   {[]string{"--mode", "xdp", "--interface", "edge0", "--control", b.path("file")}, exitFailure, []string{"is no socket"}},
		"port in use": {[]string{"--mode", "xdp", "--interface", "edge0", "--listen", ":7000"}, exitConflict,
			[]string{fmt.Sprintf("(pid %d)", os.Getpid()), "choose another port"}},
		"not our address": {[]string{"--mode", "xdp", "--interface", "edge0", "--listen", "198.51.100.1:7000"}, exitFailure, []string{"no interface of this host has this address"}},
		"no bpffs":        {[]string{"--mode", "xdp", "--interface", "edge0", "--bpffs", b.directory}, exitUnsupported, []string{"mount -t bpf bpf"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := b.run(append(b.edgeArgs(), c.args...)...)
			if code != c.code || stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q\n%s", code, c.code, stdout, stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr does not say %q:\n%s", want, stderr)
				}
			}
			b.nothingLeft()
		})
	}
	if text, err := os.ReadFile(b.path("file")); err != nil || string(text) != "in the way" {
		t.Errorf("the file that was in the way: %q %v", text, err)
	}
}

// A second edge does not take over the first one's port, instance or socket.
func TestSecondRunIsRefused(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "xdp", "--interface", "edge0")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"same port":     {[]string{"--instance", "other", "--mode", "socket"}, "the port is used by xdp-roam (pid "},
		"same instance": {[]string{"--listen", ":7000", "--mode", "socket"}, "is in use: process "},
		"same socket":   {[]string{"--listen", ":7000", "--mode", "none"}, "another daemon answers on this control socket"},
	} {
		if code, _, stderr := b.run(b.edgeArgs(c.args...)...); code != exitConflict || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, want %d\n%s", name, code, exitConflict, stderr)
		}
	}
	if status := items[control.Status](b, "status"); len(status) != 1 || status[0].Mode != "xdp" {
		t.Errorf("the first edge afterwards: %+v", status)
	}
}

// What `load` made is used by `run`, stays when that ends, and goes with `unload`.
func TestLoadRunUnload(t *testing.T) {
	b := newLabBench(t)
	code, stdout, stderr := b.run("load", "edge0", "--mode", "native", "--table-slots", "4096", "--dry-run")
	if code != exitOK || !strings.Contains(stdout, "attach roam_xdp to edge0 (veth) in xdp mode") {
		t.Errorf("load --dry-run: exit code %d\n%s%s", code, stdout, stderr)
	}
	b.nothingLeft()

	loaded := items[attachmentItem](b, "load", "edge0", "--mode", "native", "--table-slots", "4096")
	if len(loaded) != 1 || loaded[0].Interface != "edge0" || loaded[0].Mode != "xdp" || loaded[0].Program == 0 {
		t.Errorf("load: %+v", loaded)
	}
	pins := b.pinned()
	if status := items[pinsItem](b, "status"); len(status) != 1 || len(status[0].Attachments) != 1 || status[0].TableSlots != 4096 {
		t.Errorf("status of pins: %+v", status)
	}
	if again := items[attachmentItem](b, "load", "edge0", "--table-slots", "4096"); len(again) != 1 || again[0].Mode != "xdp" {
		t.Errorf("load again: %+v", again)
	}

	edge := b.startEdge("--mode", "xdp", "--interface", "edge0")
	client := b.startClient("-L", "5007:7")
	ask(t, b.program(5007), "over loaded maps")
	if code, _, stderr := b.run("unload", "--yes"); code != exitConflict || !strings.Contains(stderr, "is in use") {
		t.Errorf("unload under a daemon: exit code %d\n%s", code, stderr)
	}
	client.stop(syscall.SIGTERM)
	if code := edge.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("run ended with %d", code)
	}
	if left := b.pinned(); !slices.Equal(left, pins) {
		t.Errorf("pinned after run: %q, before it: %q", left, pins)
	}
	if mode, err := b.edge.XDP("edge0"); err != nil || mode != "native" {
		t.Errorf("XDP after run: %q %v", mode, err)
	}
	code, stdout, stderr = b.run("session", "list")
	if code != exitOK || !strings.Contains(stderr, "showing the ids in the pinned session table") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("session list without a daemon: exit code %d\n%s%s", code, stdout, stderr)
	}

	if code, _, stderr := b.run("unload"); code != exitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("unload without --yes: exit code %d\n%s", code, stderr)
	}
	if gone := items[detachedItem](b, "unload", "--yes"); len(gone) != 1 || gone[0] != (detachedItem{"edge0", "detached"}) {
		t.Errorf("unload: %+v", gone)
	}
	b.nothingLeft()
	if code, _, _ := b.run("unload", "--yes"); code != exitNotLoaded {
		t.Errorf("unload of nothing: exit code %d", code)
	}
}

// A daemon that dies leaves steering in place; the next one adopts it, and
// takes it away when it ends in order.
func TestRunAfterACrash(t *testing.T) {
	b := newLabBench(t)
	edge := b.startEdge("--mode", "xdp", "--interface", "edge0")
	client := b.startClient("-L", "5007:7")
	ask(t, b.program(5007), "before")
	edge.stop(syscall.SIGKILL)
	if mode, err := b.edge.XDP("edge0"); err != nil || mode != "native" || len(b.pinned()) == 0 {
		t.Errorf("after the crash: XDP %q %v, pins %q", mode, err, b.pinned())
	}
	if code, stdout, _ := b.run("status"); code != exitOK || !strings.Contains(stdout, "it has died; what it attached goes on to drop") {
		t.Errorf("status after the crash: exit code %d\n%s", code, stdout)
	}
	if slots := items[slotItem](b, "session", "list"); len(slots) == 0 {
		t.Error("the crashed daemon's ids are not shown")
	}
	client.stop(syscall.SIGKILL)

	edge = b.startEdge("--mode", "xdp", "--interface", "edge0")
	edge.waitFor("adopted the pinned maps")
	if slots := items[slotItem](b, "map", "dump", "slots"); len(slots) != 0 {
		t.Errorf("stale ids after the restart: %+v", slots)
	}
	b.startClient("-L", "5008:7")
	ask(t, b.program(5008), "after")
	if code := edge.stop(syscall.SIGINT); code != exitOK {
		t.Errorf("run ended with %d", code)
	}
	b.nothingLeft()
}

// With -v the log shows what the data plane drops.
func TestRunShowsEvents(t *testing.T) {
	b := newLabBench(t)
	edge := b.startEdge("--mode", "xdp", "--interface", "edge0", "-v")
	conn, err := b.client.ListenUDP(netip.AddrPortFrom(clientAddrs[0], 0))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	forged := append([]byte{0x0c}, bytes.Repeat([]byte{0xab}, 63)...)
	if _, err := conn.WriteToUDPAddrPort(forged, netip.AddrPortFrom(edgeAddr, 7626)); err != nil {
		t.Fatal(err)
	}
	edge.waitFor("stage=xdp verdict=drop reason=id_forged from=" + conn.LocalAddr().String() + " to=192.0.2.1:7626 bytes=64 id=" + strings.Repeat("ab", 16))
	b.checkStats("xdp", "drop", "id_forged")
}

// A daemon whose log nobody reads any more goes on, and ends in order when its
// terminal does.
func TestRunOutlivesItsReader(t *testing.T) {
	b := newLabBench(t)
	program, err := exec.LookPath("xdp-roam")
	if err != nil {
		t.Fatal(err)
	}
	log, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"--control", b.path("control.sock")}, b.edgeArgs("--mode", "xdp", "--interface", "edge0")...)...)
	cmd.Stderr = stderr
	if err := b.edge.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	stderr.Close()
	lines := bufio.NewScanner(log)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "ready: ") {
	}
	log.Close()

	client := b.startClient("-L", "5007:7") // which the log would tell of
	ask(t, b.program(5007), "hello")
	client.stop(syscall.SIGTERM)
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("run ended with %v", err)
	}
	b.nothingLeft()
}

// Every mode serves, and says what it is and why.
func TestRunModes(t *testing.T) {
	for name, c := range map[string]struct {
		args            []string
		ready, attached string
	}{
		"auto":         {[]string{"--mode", "auto", "--interface", "edge0"}, "mode afxdp on edge0 because driver veth has native XDP and the kernel AF_XDP", "native"},
		"generic":      {[]string{"--mode", "generic", "--interface", "edge0"}, "mode generic on edge0 because it was asked for; slower", "generic"},
		"auto, no XDP": {[]string{"--mode", "auto", "--interface", "lo"}, "mode socket because no XDP: driver", ""},
		"no interface": {[]string{"--mode", "auto"}, "mode socket because no interface is configured", ""},
		"mixed":        {[]string{"--mode", "auto", "--interface", "edge0,lo"}, "mode mixed on edge0 because edge0: driver veth has native XDP and the kernel AF_XDP; lo: no XDP", "native"},
		"none":         {[]string{"--mode", "none"}, "mode none because it was asked for", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newLabBench(t)
			edge := b.startEdge(c.args...)
			edge.waitFor(c.ready)
			if attached, err := b.edge.XDP("edge0"); err != nil || attached != c.attached {
				t.Errorf("XDP on edge0: %q %v, want %q", attached, err, c.attached)
			}
			b.startClient("-L", "5007:7")
			ask(t, b.program(5007), "hello")
			switch {
			case strings.Contains(c.ready, "AF_XDP"):
				b.checkStats("xdp", "redirect", "main_xsk")
				b.checkStats("socket", "deliver", "candidate") // before the path was validated
			case c.attached != "":
				b.checkStats("xdp", "pass", "main")
				fallthrough
			case name != "none":
				b.checkStats("socket", "deliver", "main")
			}
			if code := edge.stop(syscall.SIGTERM); code != exitOK {
				t.Errorf("run ended with %d", code)
			}
			b.nothingLeft()
		})
	}
}

// Without privileges `run` says what is missing and what works; that works.
func TestRunWithoutPrivileges(t *testing.T) {
	b := newLabBench(t)
	const nobody = 65534
	directory, err := os.MkdirTemp("", "xdp-roam-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(directory)
	program := filepath.Join(directory, "xdp-roam")
	copyProgram(t, program)
	for _, name := range []string{"server.key", "authorized_keys"} {
		text, err := os.ReadFile(b.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(directory, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(directory, name), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(directory, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	b.directory = directory
	start := func(args ...string) *process {
		cmd := exec.Command(program, append([]string{"--control", b.path("control.sock")}, b.edgeArgs(args...)...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return b.startProgram(b.edge, cmd)
	}
	refused := start("--mode", "xdp", "--interface", "edge0")
	if code := refused.exit(); code != exitPermission {
		t.Errorf("exit code %d, want %d", code, exitPermission)
	}
	for _, want := range []string{"needs CAP_BPF and CAP_NET_ADMIN (have: none)", "--mode none"} {
		if !strings.Contains(refused.said(), want) {
			t.Errorf("stderr does not say %q:\n%s", want, refused.said())
		}
	}
	b.nothingLeft()

	edge := start("--mode", "none")
	edge.waitFor("ready: listening on [::]:7626, mode none because")
	b.write("client.key", b.clientKey)
	client := b.startClient("-L", "5007:7")
	ask(t, b.program(5007), "hello")
	b.sessions(1)
	client.stop(syscall.SIGTERM)
	if code := edge.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("run ended with %d", code)
	}
	b.nothingLeft()
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	path, err := exec.LookPath("xdp-roam")
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(file, from); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
