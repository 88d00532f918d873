// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// screen is a terminal with a process on it: what it shows, and what is typed.
type screen struct {
	*process
	master *os.File

	mu   sync.Mutex
	text bytes.Buffer
}

// onTerminal starts a command in the client's namespace with all three streams on
// a terminal of 200 columns.
func (b *labBench) onTerminal(env []string, args ...string) *screen {
	b.t.Helper()
	master, slave, err := lab.OpenTerminal(200)
	if err != nil {
		testutil.SkipOrFail(b.t, fmt.Sprintf("no pseudo terminal: %v", err))
	}
	defer slave.Close()
	program, err := exec.LookPath("xdp-roam")
	if err != nil {
		b.t.Fatal(err)
	}
	s := &screen{process: &process{t: b.t, ended: make(chan struct{})}, master: master}
	s.cmd = exec.Command(program, args...)
	s.cmd.Env = append(append(os.Environ(), "XDG_CONFIG_HOME="+b.path("config"), "TERM=xterm"), env...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	if err := b.client.Start(s.cmd); err != nil {
		b.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		_ = s.cmd.Wait()
		<-read // what it said last, too
		close(s.ended)
	}()
	go func() {
		defer close(read)
		p := make([]byte, 4096)
		for {
			n, err := master.Read(p)
			s.mu.Lock()
			s.text.Write(p[:n])
			s.mu.Unlock()
			if err != nil { // EIO: nobody has the terminal open any more
				return
			}
		}
	}()
	b.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		master.Close()
		if b.t.Failed() {
			b.t.Logf("%q\n%q", s.cmd.Args, s.shows())
		}
	})
	return s
}

func (s *screen) shows() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) waitShown(part string) {
	s.t.Helper()
	until(s.t, fmt.Sprintf("the terminal shows %q", part), func() bool { return strings.Contains(s.shows(), part) })
}

func (s *screen) enter(line string) {
	s.t.Helper()
	if _, err := s.master.WriteString(line + "\n"); err != nil {
		s.t.Fatal(err)
	}
}

// A key that came with an address is asked about, once.
func TestConnectAsks(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "socket")
	server := b.serverKey.Public().String() + "@" + edgeAddr.String()
	args := []string{"connect", server, "--identity", b.path("client.key"), "-L", "5007:7/udp"}
	question := "192.0.2.1 was never used here. Its key is said to be\r\n  " + b.serverKey.Public().String()

	no := b.onTerminal(nil, args...)
	no.waitShown(question)
	no.waitShown("[yes/no] ")
	no.enter("no")
	if code := no.exit(); code != exitFailure || !strings.Contains(no.shows(), "the key of 192.0.2.1 was not accepted") {
		t.Errorf("no: exit code %d", code)
	}
	interrupted := b.onTerminal(nil, args...)
	interrupted.waitShown("[yes/no] ")
	if code := interrupted.stop(syscall.SIGINT); code == exitOK {
		t.Error("an interrupted question is an answer")
	}
	yes := b.onTerminal(nil, args...)
	yes.waitShown("[yes/no] ")
	yes.enter("yes")
	yes.waitShown("is remembered in ")
	yes.waitShown("forwards to service 7")
	if code := yes.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("yes: exit code %d", code)
	}
	again := b.onTerminal(nil, args...)
	again.waitShown("forwards to service 7")
	if strings.Contains(again.shows(), "never used here") {
		t.Error("asked again")
	}
}

// The last line of a terminal tells the network, the path and the last move, and
// is gone when connect ends.
func TestConnectStatusLine(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "socket")
	args := []string{"connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--identity", b.path("client.key"), "-L", "5007:7/udp"}
	s := b.onTerminal(nil, args...)
	s.waitShown("\x1b[2mclient0 192.0.2.2 -> 192.0.2.1:7626  rtt ")
	s.waitShown("never moved")
	ask(t, b.program(5007), "hello")
	if err := b.client.DelAddr("client0", netip.PrefixFrom(clientAddrs[0], 24)); err != nil {
		t.Fatal(err)
	}
	s.waitShown("waiting for a route")
	if err := b.client.AddAddr("client0", netip.PrefixFrom(clientAddrs[1], 24)); err != nil {
		t.Fatal(err)
	}
	s.waitShown("client0 192.0.2.3 -> 192.0.2.1:7626")
	s.waitShown("  moved ")
	if code := s.stop(syscall.SIGINT); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if shown := s.shows(); !strings.HasSuffix(shown, "\r") {
		t.Errorf("what is left on the line: %q", shown[strings.LastIndexByte(shown, '\n')+1:])
	}

	plain := b.onTerminal([]string{"NO_COLOR=1"}, append(args, "-v")...)
	plain.waitShown("client0 192.0.2.3 -> 192.0.2.1:7626")
	if strings.Contains(plain.shows(), "\x1b") {
		t.Error("colour with NO_COLOR")
	}
	dumb := b.onTerminal([]string{"TERM=dumb"}, "connect", edgeAddr.String(), "--identity", b.path("client.key"), "-L", "5008:7/udp")
	dumb.waitShown("forwards to service 7")
	ask(t, b.program(5008), "hello")
	if strings.Contains(dumb.shows(), "  rtt ") {
		t.Error("a status line on a terminal that cannot show one")
	}
}
