// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// files counts what the process has open.
func (p *process) files() int {
	p.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(entries)
}

// What cannot work is a sentence that says what to do, for the client's person and
// for the operator, and leaves nothing behind at either end.
func TestBadInput(t *testing.T) {
	b := newLabBench(t)
	stranger := handshake.NewPrivateKey()
	b.write("stranger.key", stranger)
	bob := handshake.NewPrivateKey()
	b.write("bob.key", bob)
	b.authorize(b.clientKey.Public().String()+" alice", bob.Public().String()+" bob services=7 sessions=1")
	config := fmt.Sprintf(`
key_file = "server.key"
authorized_keys = "authorized_keys"
state_dir = %q
mode = "socket"
table_slots = 4096
`, b.path("state"))
	for _, s := range []string{
		`port = 7
backend = "echo:"
max_sessions_per_client = 2`,
		`port = 53
backend = "udp://127.0.0.1:1"`,
		`port = 80
backend = "tcp://127.0.0.1:8080"
max_streams_per_client = 1`,
		`port = 81
backend = "tcp://127.0.0.1:1"`,
		`port = 82
backend = "unix:///nonexistent/app.sock"`,
		`port = 83
backend = "tcp://127.0.0.1:8080"
max_sessions = 1`,
	} {
		config += "[[service]]\n" + s + "\n"
	}
	if err := os.WriteFile(b.path("edge.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	edge := b.start(b.edge, "run", "--config", b.path("edge.toml"))
	edge.waitFor("ready: ")
	b.backend("127.0.0.1:8080")
	held := b.connect("-L", "5001:7/udp", "-L", "5080:80", "-L", "5083:83")
	held.waitFor("5083 forwards to service 83")
	long := b.connect("-L", "5053:53/udp", "-L", "5081:81", "-L", "5082:82")
	long.waitFor("5082 forwards to service 82")
	busy := b.dialTCP(5080) // the one stream of service 80
	busy.Write([]byte("x"))
	until(t, "the stream is open", func() bool { return b.established(8080) == 1 })
	ask(t, b.program(5001), "hello")
	filesOfEdge, filesOfLong := edge.files(), long.files()

	identity := func(key string, args ...string) []string {
		return append([]string{"connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--identity", b.path(key)}, args...)
	}
	// What ends a client at its start.
	for name, c := range map[string]struct {
		args       []string
		code       int
		here, edge []string
	}{
		"unknown service": {identity("client.key", "-L", "5002:9"), exitFailure,
			[]string{"service 9: the server refused: no such service", "check the service port asked for"},
			[]string{"no service on port 9", "add a service with that port"}},
		"unauthorised key": {identity("stranger.key", "-L", "5002:7/udp"), exitPermission,
			[]string{"not authorised", "fix: add this line to the server's authorized_keys: " + stranger.Public().String() + " NAME"},
			[]string{stranger.Public().String(), "add its key and the service to those authorised"}},
		"unauthorised service": {identity("bob.key", "-L", "5002:80"), exitPermission,
			[]string{"bob may not use service 80 here", "fix: "},
			[]string{"bob may not use service 80 here"}},
		"wrong pinned key": {[]string{"connect", edgeAddr.String(), "--server-key", stranger.Public().String(), "-L", "5002:7/udp"}, exitConflict,
			[]string{"is not the one that it had", "known forget 192.0.2.1:7626"}, nil},
		"port in use": {identity("client.key", "-L", "5001:7/udp"), exitConflict,
			[]string{"the port is used by xdp-roam (pid ", "name another one"}, nil},
		"sessions of the service": {identity("client.key", "-L", "5002:83"), exitFailure,
			[]string{"the service has its 1 sessions already; try again later"},
			[]string{"msg=session_refused", "raise the service's limit"}},
		"a stream beyond the client's": {identity("client.key", "-W", "80"), exitFailure,
			[]string{"your key has its 1 connections with the service already: end one first"},
			[]string{"msg=stream_refused", "raise the service's limit"}},
	} {
		p := b.start(b.client, c.args...)
		if code := p.exit(); code != c.code {
			t.Errorf("%s: exit code %d, want %d", name, code, c.code)
		}
		for _, want := range c.here {
			if !strings.Contains(p.said(), want) {
				t.Errorf("%s: the client does not say %q:\n%s", name, want, p.said())
			}
		}
		for _, want := range c.edge {
			edge.waitFor(want)
		}
	}
	// Nothing is logged of a handshake under another key, which anyone can send: doctor tells.
	if _, said, _ := b.run("doctor"); strings.Contains(said, "another server's key") {
		t.Errorf("doctor tells of what has not been:\n%s", said)
	}
	wrong := b.start(b.client, "connect", edgeAddr.String(), "--server-key", stranger.Public().String(),
		"--known-servers", b.path("other_servers"), "-L", "5002:7/udp")
	until(t, "its handshake has come", func() bool {
		return slices.ContainsFunc(items[control.Counter](b, "stats"), func(c control.Counter) bool { return c.Reason == "mac1" })
	})
	wrong.stop(syscall.SIGTERM)
	_, said, _ := b.run("doctor")
	for _, want := range []string{"handshakes under another server's key: ", "previous_key_file"} {
		if !strings.Contains(said, want) {
			t.Errorf("doctor does not say %q:\n%s", want, said)
		}
	}
	// What a client tells and goes on after.
	for range 20 {
		for _, port := range []int{5081, 5082} {
			if answer, err := b.exchange(port, "anyone?"); err == nil {
				t.Errorf("without a backend: %q", answer)
			}
		}
	}
	long.waitFor("nothing listens at the service's address; tell its operator, and try again")
	long.waitFor("the service's socket does not exist; tell its operator, and try again")
	long.provoke(b.program(5053), "nothing listens at the service's address; tell the server's operator, and try again")
	for _, want := range []string{"start the backend, or correct its address", "start the program that makes the socket"} {
		edge.waitFor(want)
	}
	if n := strings.Count(edge.said(), "msg=backend_down"); n != 3 {
		t.Errorf("three backends that are away are told of %d times", n)
	}

	until(t, "nothing is left at the edge", func() bool {
		s := b.status()
		return s.HalfOpen == 0 && edge.files() <= filesOfEdge
	})
	until(t, "nothing is left at the client", func() bool { return long.files() <= filesOfLong })
	busy.Close()
	ask(t, b.program(5001), "still here")
}
