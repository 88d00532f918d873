// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// counter returns what the running edge has counted under a reason.
func (b *labBench) counter(reason string) (n uint64) {
	b.t.Helper()
	for _, c := range items[control.Counter](b, "stats") {
		if c.Stage == "server" && c.Reason == reason {
			n += c.Value
		}
	}
	return n
}

// load sends without pause until the returned function is called.
func load(program *net.UDPConn) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if _, err := program.Write([]byte("load")); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// THREATS: daemon killed with -9. Under load, the local program keeps its socket
// and is served again; the client needed no more than what one round trip carries
// after the restarted daemon's first word: one INIT, one RESP.
func TestConnectSurvivesKill(t *testing.T) {
	b := newLabBench(t)
	edge, client, program := b.startEcho("--mode", "none")
	for round := range 3 {
		stop := load(program)
		edge.stop(syscall.SIGKILL)
		edge = b.startEdge("--mode", "none")
		until(t, "another session", func() bool {
			return strings.Count(client.said(), ": opened again with 192.0.2.1:7626") == round+1
		})
		stop()
		ask(t, program, "after")
		if resets, opened := b.counter("reset"), b.counter("resp_accepted"); resets == 0 || opened != 1 {
			t.Errorf("round %d: %d resets, %d sessions accepted", round, resets, opened)
		}
		for _, reason := range []string{"retry", "resp_refused", "init_conflict"} {
			if n := b.counter(reason); n != 0 {
				t.Errorf("round %d: %d %s", round, n, reason)
			}
		}
		b.sessions(1)
	}
	said := client.said()
	if !strings.Contains(said, "no longer knows the session; opening another session") || strings.Contains(said, "session ended") {
		t.Errorf("the client said\n%s", said)
	}
	if code := client.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("connect ended with %d", code)
	}
	b.sessions(0)
}

// A restart in order, with nobody sending: the client comes back by itself.
func TestConnectSurvivesRestart(t *testing.T) {
	b := newLabBench(t)
	edge, client, program := b.startEcho("--mode", "none")
	if code := edge.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("run ended with %d", code)
	}
	client.waitFor("shutting down")
	client.waitFor("opening another session")
	b.startEdge("--mode", "none")
	client.waitFor("opened again with 192.0.2.1:7626 (number 2)")
	ask(t, program, "after")
}
