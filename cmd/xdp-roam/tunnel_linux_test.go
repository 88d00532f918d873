// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// backend is a TCP service at the edge that sends back what comes, in upper case
// and only after the client's end of file, so that a half-close has to arrive.
func (b *labBench) backend(address string) net.Listener {
	b.t.Helper()
	var l net.Listener
	err := b.edge.Do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				text, _ := io.ReadAll(conn)
				conn.Write(bytes.ToUpper(text))
			}()
		}
	}()
	return l
}

// exchange sends text on a new connection to a local port of the client and
// returns the answer, or why there is none.
func (b *labBench) exchange(port int, text string) (string, error) {
	b.t.Helper()
	var conn net.Conn
	err := b.client.Do(func() (err error) {
		conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// connect starts `connect` to the edge with alice's key.
func (b *labBench) connect(args ...string) *process {
	b.t.Helper()
	return b.start(b.client, append([]string{
		"connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--identity", b.path("client.key"),
	}, args...)...)
}

// Several forwards of both kinds in one process: the connections to one service
// share a session, a backend that is away is told of on both ends and tried again,
// and a server that was restarted is found again, with the reason.
func TestConnectForwards(t *testing.T) {
	b := newLabBench(t)
	services := []string{"--mode", "socket", "--service", "7=echo:", "--service", "80=tcp://127.0.0.1:8080", "--service", "81=tcp://127.0.0.1:8081"}
	edge := b.startEdge(services...)
	b.backend("127.0.0.1:8080")
	client := b.connect("-N", "-L", "5080:80", "-L", "127.0.0.2:5080:80/tcp", "-L", "5081:81", "-L", "5007:7/udp")
	client.waitFor("127.0.0.1:5007 forwards to service 7 (udp)")
	for i := range 3 {
		text := fmt.Sprintf("connection %d", i)
		if answer, err := b.exchange(5080, text); err != nil || answer != strings.ToUpper(text) {
			t.Errorf("%q %v", answer, err)
		}
	}
	ask(t, b.program(5007), "hello")
	if sessions := b.sessions(3); sessions[1].Service != 80 || sessions[2].Service != 81 {
		t.Errorf("sessions: %+v", sessions)
	}

	if answer, err := b.exchange(5081, "anyone?"); err == nil || answer != "" {
		t.Errorf("without a backend: %q %v", answer, err)
	}
	client.waitFor("the server refused the connection: ")
	edge.waitFor("127.0.0.1:8081")
	b.backend("127.0.0.1:8081")
	if answer, err := b.exchange(5081, "now?"); err != nil || answer != "NOW?" {
		t.Errorf("the backend is there: %q %v", answer, err)
	}

	if code := edge.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("run ended with %d", code)
	}
	client.waitFor("service 80: session ended: ")
	client.waitFor("service 80: no session: ")
	client.waitFor("next try in ")
	b.startEdge(services...)
	until(t, "the forward is back", func() bool {
		answer, err := b.exchange(5080, "again")
		return err == nil && answer == "AGAIN"
	})
	if code := client.stop(syscall.SIGINT); code != exitOK {
		t.Errorf("connect ended with %d", code)
	}
	b.sessions(0)
}

// A client's preshared key: the right one lets it in; every other way ends with a
// sentence on both ends, and nothing half-open stays.
func TestThreatPSK(t *testing.T) {
	b := newLabBench(t)
	psk, other := handshake.NewPrivateKey(), handshake.NewPrivateKey()
	b.write("alice.psk", psk)
	b.write("other.psk", other)
	bob := handshake.NewPrivateKey()
	b.write("bob.key", bob)
	b.authorize(b.clientKey.Public().String()+" alice psk-file=alice.psk", bob.Public().String()+" bob")
	edge := b.startEdge("--mode", "socket")

	wrong := b.connect("-L", "5001:7/udp", "--psk-file", b.path("other.psk"))
	missing := b.connect("-L", "5002:7/udp")
	b.startClient("-L", "5007:7", "--psk-file", b.path("alice.psk"))
	ask(t, b.program(5007), "hello")

	only := b.connect("-L", "5003:7/udp", "--identity", b.path("bob.key"), "--psk-file", b.path("alice.psk"))
	if code := only.exit(); code != exitPermission || !strings.Contains(only.said(), "the server has no preshared key for this client, and this client has one") {
		t.Errorf("the client's only: exit code %d\n%s", code, only.said())
	}
	stranger := handshake.NewPrivateKey()
	b.write("stranger.key", stranger)
	refused := b.connect("-L", "5004:7/udp", "--identity", b.path("stranger.key"), "--psk-file", b.path("alice.psk"))
	if code := refused.exit(); code != exitPermission || !strings.Contains(refused.said(), "not authorised") || !strings.Contains(refused.said(), stranger.Public().String()+" NAME") {
		t.Errorf("a stranger: exit code %d\n%s", code, refused.said())
	}
	for name, p := range map[string]*process{"another": wrong, "the server's only": missing} {
		if code := p.exit(); code != exitFailure || !strings.Contains(p.said(), "check that both ends have the same preshared key") {
			t.Errorf("%s: exit code %d\n%s", name, code, p.said())
		}
	}
	edge.waitFor("session_unconfirmed")
	edge.waitFor("see whether both ends have the same preshared key")
	until(t, "nothing is half open", func() bool { return b.status().HalfOpen == 0 })
	b.sessions(1)
}

// A key is named once; another one for the same server is refused from then on.
func TestThreatOtherServer(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "socket")
	first := b.startClient("-L", "5007:7")
	first.waitFor("the key of " + edgeAddr.String() + " is remembered in " + b.path("config/xdp-roam/known_servers"))
	first.stop(syscall.SIGTERM)
	again := b.start(b.client, "connect", edgeAddr.String(), "--identity", b.path("client.key"), "-L", "5007:7/udp")
	again.waitFor("forwards to service 7")
	if strings.Contains(again.said(), "remembered") {
		t.Errorf("remembered twice:\n%s", again.said())
	}
	stranger := handshake.NewPrivateKey().Public()
	changed := b.start(b.client, "connect", edgeAddr.String(), "--server-key", stranger.String(), "-L", "5008:7/udp")
	if code := changed.exit(); code != exitConflict || !strings.Contains(changed.said(), "is not the one that it had") || !strings.Contains(changed.said(), "known forget 192.0.2.1:7626") {
		t.Errorf("exit code %d\n%s", code, changed.said())
	}
	// A wrong key is never remembered: the server does not answer it.
	silent := b.start(b.client, "connect", "192.0.2.1:7627", "--server-key", stranger.String(), "-L", "5009:7/udp")
	if code := silent.exit(); code != exitFailure || strings.Contains(silent.said(), "remembered") {
		t.Errorf("exit code %d\n%s", code, silent.said())
	}
}

// A profile is a server's address, key, identity and forwards under a name.
func TestConnectProfile(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "socket", "--service", "7=echo:", "--service", "80=tcp://127.0.0.1:8080")
	b.backend("127.0.0.1:8080")
	text := fmt.Sprintf(`[server.office]
address = "%v"
server_key = "%v"
identity = "client.key"
forward = ["5080:80", "5007:7/udp"]
`, edgeAddr, b.serverKey.Public())
	if err := os.WriteFile(b.path("profiles.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := b.start(b.client, "connect", "office", "--config", b.path("profiles.toml"), "-L", "5081:80")
	p.waitFor("127.0.0.1:5081 forwards to service 80")
	for _, port := range []int{5080, 5081} {
		if answer, err := b.exchange(port, "hi"); err != nil || answer != "HI" {
			t.Errorf("port %d: %q %v", port, answer, err)
		}
	}
	ask(t, b.program(5007), "hello")
}

// What a client may have is bounded, and both ends say by what.
func TestConnectLimit(t *testing.T) {
	b := newLabBench(t)
	b.authorize(b.clientKey.Public().String() + " alice services=7 sessions=1")
	edge := b.startEdge("--mode", "socket", "--service", "7=echo:", "--service", "8=echo:")
	b.startClient("-L", "5007:7")
	for name, c := range map[string]struct {
		service string
		code    int
		want    string
	}{
		"sessions": {"7", exitFailure, "this key has 1 sessions, as many as it may have: end one first"},
		"services": {"8", exitPermission, "alice may not use service 8 here"},
	} {
		p := b.connect("-L", "5008:"+c.service+"/udp")
		if code := p.exit(); code != c.code || !strings.Contains(p.said(), c.want) {
			t.Errorf("%s: exit code %d\n%s", name, code, p.said())
		}
		edge.waitFor(c.want)
	}
	b.sessions(1)
	if s := b.status(); s.HalfOpen != 0 {
		t.Errorf("%d half open", s.HalfOpen)
	}
}

// The wrong kind of service is told apart from one that is not there.
func TestConnectWrongKind(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "socket", "--service", "7=echo:", "--service", "80=tcp://127.0.0.1:8080")
	p := b.connect("-L", "5007:7")
	select {
	case <-p.ended:
	case <-time.After(2 * patience): // streams wait for 20 s
	}
	if code := p.exit(); code != exitFailure || !strings.Contains(p.said(), "if it is a UDP service, append /udp") {
		t.Errorf("TCP to a UDP service: exit code %d\n%s", code, p.said())
	}
	udp := b.connect("-L", "5080:80/udp")
	udp.waitFor("forwards to service 80")
	udp.provoke(b.program(5080), "session ended: ")
}

// A port that is in use is named with its owner, for both networks.
func TestConnectPortInUse(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "socket", "--service", "7=echo:", "--service", "80=tcp://127.0.0.1:8080")
	b.connect("-L", "5080:80", "-L", "5007:7/udp").waitFor("forwards to service 7")
	for _, rule := range []string{"5080:80", "5007:7/udp"} {
		p := b.connect("-L", rule)
		if code := p.exit(); code != exitConflict || !strings.Contains(p.said(), "the port is used by xdp-roam (pid ") {
			t.Errorf("%s: exit code %d\n%s", rule, code, p.said())
		}
	}
}

// --json is a line for each event, all with a time and a name, on stdout.
func TestConnectJSON(t *testing.T) {
	b := newLabBench(t)
	edge := b.startEdge("--mode", "socket")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	program, err := exec.LookPath("xdp-roam")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--identity", b.path("client.key"), "-L", "5007:7/udp", "--json")
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+b.path("config"))
	cmd.Stdout = w
	if err := b.client.Start(cmd); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(r)
	next := func(name string) connectEvent {
		t.Helper()
		for lines.Scan() {
			var e connectEvent
			decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&e); err != nil || e.Time.IsZero() || e.Event == "" {
				t.Fatalf("%s: %v", lines.Text(), err)
			}
			if e.Event == name {
				return e
			}
		}
		t.Fatalf("no %s", name)
		return connectEvent{}
	}
	connected := next("connected")
	if connected.Session != 1 || connected.Service != 7 || connected.Remote != "192.0.2.1:7626" || !strings.HasPrefix(connected.Local, "192.0.2.2:") ||
		connected.Interface != "client0" || connected.ServerKey != b.serverKey.Public().String() || connected.PublicKey != b.clientKey.Public().String() {
		t.Errorf("%+v", connected)
	}
	if e := next("listening"); e.Forward != "127.0.0.1:5007" || e.Network != "udp" || e.Service != 7 {
		t.Errorf("%+v", e)
	}
	edge.stop(syscall.SIGTERM)
	if e := next("reopening"); e.Session != 1 || e.Service != 7 || !strings.Contains(e.Error, "shutting down") {
		t.Errorf("%+v", e)
	}
	b.startEdge("--mode", "socket")
	if e := next("reopened"); e.Generation != 2 || e.Remote != "192.0.2.1:7626" {
		t.Errorf("%+v", e)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := next("closed"); e.Session != 1 || e.Error == "" {
		t.Errorf("%+v", e)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}
