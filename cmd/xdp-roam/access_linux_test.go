// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// authorize puts another authorized_keys in the place of the one that is there.
func (b *labBench) authorize(lines ...string) {
	b.t.Helper()
	name := b.path("authorized_keys")
	if err := os.WriteFile(name+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		b.t.Fatal(err)
	}
}

func (b *labBench) status() control.Status {
	b.t.Helper()
	status := items[control.Status](b, "status")
	if len(status) != 1 {
		b.t.Fatalf("status: %+v", status)
	}
	return status[0]
}

// provoke sends datagrams until the process says part: after a refusal it waits a
// while before it asks the server again.
func (p *process) provoke(conn *net.UDPConn, part string) {
	p.t.Helper()
	until(p.t, "it says "+part, func() bool {
		conn.Write([]byte("again"))
		return strings.Contains(p.said(), part)
	})
}

// The list of clients is read again when it changes and at SIGHUP: who is removed
// loses the session and learns why, everyone else notices nothing, and a list that
// is wrong changes nothing but the status.
func TestThreatKeyTakenAway(t *testing.T) {
	b := newLabBench(t)
	bob := handshake.NewPrivateKey()
	b.write("bob.key", bob)
	alice := b.clientKey.Public().String() + " alice"
	b.authorize(alice, bob.Public().String()+" bob")
	edge := b.startEdge("--mode", "socket")
	b.startClient("-L", "5007:7")
	out := b.startClient("-L", "5008:7", "--identity", b.path("bob.key"))
	stays, goes := b.program(5007), b.program(5008)
	ask(t, stays, "first")
	ask(t, goes, "first")
	before := b.sessions(2)

	b.authorize("# " + bob.Public().String() + " bob\n" + alice)
	out.waitFor("the server closed the session: not authorised any more: this key was removed from those authorised here")
	edge.waitFor("removed=bob changed=\"\" sessions_ended=1")
	left := b.sessions(1)
	if left[0].PeerName != "alice" || left[0].ID != before[0].ID && left[0].ID != before[1].ID {
		t.Errorf("left: %+v, of %+v", left, before)
	}
	ask(t, stays, "still the same session")
	out.provoke(goes, "the server refused: not authorised: this key is not authorised here")

	b.authorize(alice, "nonsense")
	edge.waitFor("authorized_keys is wrong and not used")
	if s := b.status().AuthorizedKeys; s == nil || s.Clients != 1 || !strings.Contains(s.Error, "authorized_keys:2: ") || s.Failed.IsZero() {
		t.Errorf("status: %+v", s)
	}
	if _, table, _ := b.run("status"); !strings.Contains(table, "the file is wrong now and not used") {
		t.Errorf("status says:\n%s", table)
	}
	b.startClient("-L", "5009:7").stop(syscall.SIGTERM) // alice is let in all the same
	ask(t, stays, "the list before is in force")

	b.authorize(alice, bob.Public().String()+" bob services=8")
	edge.waitFor("added=bob")
	if s := b.status().AuthorizedKeys; s == nil || s.Clients != 2 || s.Error != "" {
		t.Errorf("status: %+v", s)
	}
	out.provoke(goes, "the server refused: not authorised: bob may not use service 7 here")
	if err := edge.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	edge.waitFor("added=\"\" removed=\"\" changed=\"\" sessions_ended=0")
	if again := b.sessions(1); again[0].ID != left[0].ID {
		t.Errorf("alice has another session: %+v, was %+v", again, left)
	}
	if code := edge.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("run ended with %d", code)
	}
}
