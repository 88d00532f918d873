// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// What cannot work ends at once and says why: the first session is opened at the start.
func TestConnectIsRefused(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "xdp", "--interface", "edge0")
	stranger := handshake.NewPrivateKey()
	b.write("stranger.key", stranger)
	key := b.serverKey.Public().String()
	silent := b.start(b.client, "connect", edgeAddr.String(), "--server-key", stranger.Public().String(), "--udp", "-L", "5001:7")

	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"no such service": {[]string{"--identity", b.path("client.key"), "-L", "5002:8"}, exitFailure,
			[]string{"service 8: the server refused: no such service"}},
		"second service": {[]string{"--identity", b.path("client.key"), "-L", "5003:7", "-L", "5004:8"}, exitFailure,
			[]string{"service 8: the server refused: no such service"}},
		"not authorised": {[]string{"--identity", b.path("stranger.key"), "-L", "5005:7"}, exitPermission,
			[]string{"the server refused: not authorised", stranger.Public().String()}},
		"anonymous": {[]string{"-L", "5006:7"}, exitPermission, []string{"the server refused: not authorised"}},
		"not our address": {[]string{"-L", "198.51.100.9:5007:7"}, exitFailure,
			[]string{"cannot listen on 198.51.100.9:5007"}},
	} {
		args := append([]string{"connect", edgeAddr.String(), "--server-key", key, "--udp"}, c.args...)
		p := b.start(b.client, args...)
		if code := p.exit(); code != c.code {
			t.Errorf("%s: exit code %d, want %d", name, code, c.code)
		}
		for _, want := range c.want {
			if !strings.Contains(p.said(), want) {
				t.Errorf("%s: stderr does not say %q:\n%s", name, want, p.said())
			}
		}
	}
	b.sessions(0)
	if code := silent.exit(); code != exitFailure || !strings.Contains(silent.said(), "no answer from 192.0.2.1:7626") || !strings.Contains(silent.said(), "public key") {
		t.Errorf("wrong server key: exit code %d\n%s", code, silent.said())
	}
}

// Each local program has a session; an idle one ends, and the next datagram opens another.
func TestConnectSessions(t *testing.T) {
	b := newLabBench(t)
	edge := b.startEdge("--mode", "socket")
	client := b.startClient("-L", "5007:7", "--idle-timeout", "1s")
	first, second := b.program(5007), b.program(5007)
	// Nobody is idle while we look.
	stopFirst, stopSecond := load(first), load(second)
	sessions := b.sessions(2)
	stopFirst()
	stopSecond()
	busy := b.start(b.client, "connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--udp", "-L", "5007:7")
	if code := busy.exit(); code != exitConflict || !strings.Contains(busy.said(), "the port is used by xdp-roam (pid ") {
		t.Errorf("a second connect on the port: exit code %d\n%s", code, busy.said())
	}

	b.sessions(0)
	client.waitFor("session ended: ")
	stopFirst = load(first)
	if again := b.sessions(1); again[0].ID == sessions[0].ID || again[0].ID == sessions[1].ID {
		t.Errorf("an ended session came back: %+v", again)
	}

	stopFirst()
	// The server tells the client that it stops; the client says so and tries again when asked.
	if code := edge.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("run ended with %d", code)
	}
	client.waitFor("shutting down")
	b.startEdge("--mode", "socket")
	ask(t, first, "to the next edge")
	if code := client.stop(syscall.SIGINT); code != exitOK {
		t.Errorf("connect ended with %d", code)
	}
}

// A signal while the first session is opened ends it without a complaint.
func TestConnectInterrupted(t *testing.T) {
	b := newLabBench(t)
	// 192.0.2.1 is there and silent: no edge runs.
	p := b.start(b.client, "connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--udp", "-L", "5007:7")
	until(t, "connect listens", func() bool {
		conn := b.program(5007)
		defer conn.Close()
		conn.Write([]byte("x"))
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		return err != nil && !strings.Contains(err.Error(), "refused")
	})
	if code := p.stop(syscall.SIGTERM); code != exitOK || strings.Contains(p.said(), "xdp-roam:") {
		t.Errorf("exit code %d\n%s", code, p.said())
	}
}
