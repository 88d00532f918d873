// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// stdio starts `connect -W` with alice's key.
func (b *labBench) stdio(input io.Reader, args ...string) *process {
	b.t.Helper()
	cmd := b.stdioCommand(args...)
	cmd.Stdin = input
	return b.startProgram(b.client, cmd)
}

func (b *labBench) stdioCommand(args ...string) *exec.Cmd {
	return b.command(append([]string{"connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--identity", b.path("client.key"), "-W"}, args...)...)
}

// network takes the client's network away or brings it back.
func (b *labBench) network(up bool) {
	b.t.Helper()
	if err := b.client.SetUp("client0", up); err != nil {
		b.t.Fatal(err)
	}
}

// -W is clean: stdout has the service's bytes and nothing else, stderr only errors.
func TestConnectStdio(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "socket", "--service", "7=echo:", "--service", "80=tcp://127.0.0.1:8080")
	hello := func() io.Reader { return strings.NewReader("hello") }
	away := b.stdio(hello(), "80")
	if code := away.exit(); code != exitFailure || away.stdout.Len() != 0 || !strings.Contains(away.said(), "the server refused the connection: ") {
		t.Errorf("without a backend: exit code %d\n%s%s", code, away.stdout.String(), away.said())
	}
	b.backend("127.0.0.1:8080")
	p := b.stdio(hello(), "80")
	if code := p.exit(); code != exitOK || p.stdout.String() != "HELLO" || p.said() != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, p.stdout.String(), p.said())
	}
	none := b.stdio(hello(), "9")
	if code := none.exit(); code != exitFailure || none.stdout.Len() != 0 || !strings.Contains(none.said(), "service 9: the server refused: no such service") {
		t.Errorf("no service: exit code %d\n%s%s", code, none.stdout.String(), none.said())
	}
	events := b.stdio(hello(), "80", "--json")
	if code := events.exit(); code != exitOK || events.stdout.String() != "HELLO" || !strings.Contains(events.said(), `"event":"connected"`) {
		t.Errorf("with events: exit code %d, stdout %q, stderr %q", code, events.stdout.String(), events.said())
	}
	b.sessions(0)
}

// Between two networks there is none for a moment, which -W waits out, but not for long.
func TestConnectStdioBetweenNetworks(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "socket", "--service", "80=tcp://127.0.0.1:8080")
	b.backend("127.0.0.1:8080")
	b.network(false)
	between := b.stdio(strings.NewReader("hello"), "80", "--json")
	between.waitFor(`"event":"no_route"`)
	b.network(true)
	if code := between.exit(); code != exitOK || between.stdout.String() != "HELLO" || !strings.Contains(between.said(), `"event":"route_back"`) {
		t.Errorf("between networks: exit code %d, stdout %q, stderr %q", code, between.stdout.String(), between.said())
	}
	b.sessions(0)
	b.network(false)
	nowhere := b.stdio(strings.NewReader("hello"), "80")
	if code := nowhere.exit(); code != exitFailure || nowhere.stdout.Len() != 0 || !strings.Contains(nowhere.said(), "no route to the server") {
		t.Errorf("without a network: exit code %d\n%s%s", code, nowhere.stdout.String(), nowhere.said())
	}
}

// What stdin has to say after the service has ended its direction arrives, however
// late, and through an outage: -W ends when the service has it.
func TestConnectStdioLastBytes(t *testing.T) {
	b := newLabBench(t)
	got := make(chan []byte, 1)
	backend := b.listenTCP(func(c *net.TCPConn) {
		c.Write([]byte("bye"))
		c.CloseWrite()
		text, _ := io.ReadAll(c)
		got <- text
	})
	b.startEdge("--mode", "socket", "--service", fmt.Sprintf("80=tcp://127.0.0.1:%d", backend))
	stdin, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	defer out.Close()
	cmd := b.stdioCommand("80")
	cmd.Stdin, cmd.Stdout = stdin, stdout
	p := b.startProgram(b.client, cmd)
	stdin.Close()
	stdout.Close()
	feed.Write([]byte("first, "))
	if text, err := io.ReadAll(out); string(text) != "bye" || err != nil {
		t.Fatalf("%q, %v; the service's end is that of stdout", text, err)
	}
	// The last bytes and the end of stdin come while nothing reaches the server.
	if err := b.edge.SetUp("edge0", false); err != nil {
		t.Fatal(err)
	}
	last := bytes.Repeat([]byte("last"), 10_000)
	feed.Write(last)
	feed.Close()
	select {
	case <-p.ended:
		t.Errorf("it ends with %v before the service has what stdin had", p.cmd.ProcessState)
	case <-time.After(2 * time.Second): // an outage: it has to last for some time
	}
	if err := b.edge.SetUp("edge0", true); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code != exitOK || p.said() != "" {
		t.Errorf("exit code %d\n%s", code, p.said())
	}
	select {
	case text := <-got:
		if want := append([]byte("first, "), last...); !bytes.Equal(text, want) {
			t.Errorf("the service got %d bytes of %d", len(text), len(want))
		}
	case <-time.After(patience):
		t.Error("the service's connection does not end")
	}
	b.sessions(0)
}
