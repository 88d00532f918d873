// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

var services = []config.Service{{Port: 7, Name: "echo"}, {Port: 22, Name: "ssh"}}

func newKey() handshake.PublicKey { return handshake.NewPrivateKey().Public() }

// write puts the lines into a file in its place, as editors do.
func write(t *testing.T, name string, lines ...string) {
	t.Helper()
	text := strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, lines ...string) (*List, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "authorized_keys")
	write(t, name, lines...)
	l, err := Open(name, services)
	if err != nil {
		t.Fatal(err)
	}
	return l, name
}

func TestAuthorize(t *testing.T) {
	alice, bob := newKey(), newKey()
	psk := handshake.PSK(newKey())
	text, _ := psk.MarshalText()
	l, _ := open(t, alice.String()+" alice", fmt.Sprintf("%v bob services=ssh sessions=3 psk=%s", bob, text))
	if a := l.Authorize(alice, 9); !a.Allowed || a.Name != "alice" || !a.PSK.IsZero() {
		t.Errorf("alice: %+v", a)
	}
	if a := l.Authorize(bob, 22); !a.Allowed || a.Name != "bob" || a.PSK != psk || a.Sessions != 3 {
		t.Errorf("bob: %+v", a)
	}
	if a := l.Authorize(bob, 7); a.Allowed || a.PSK != psk || a.Reason != "bob may not use service 7 here" {
		t.Errorf("bob at another service: %+v", a)
	}
	if a := l.Authorize(newKey(), 7); a.Allowed || a.Reason != "" || a.Name != "" {
		t.Errorf("a stranger: %+v", a)
	}
}

// A new list ends the sessions that it does not let in, and no others.
func TestRevoked(t *testing.T) {
	alice, bob, carol, dave := newKey(), newKey(), newKey(), newKey()
	psk, _ := handshake.PSK(newKey()).MarshalText()
	l, name := open(t, alice.String()+" alice", bob.String()+" bob", carol.String()+" carol sessions=1", dave.String()+" dave")
	write(t, name, "# moved", dave.String()+" dave services=ssh", carol.String()+" carol sessions=2", bob.String()+" bob psk="+string(psk), newKey().String()+" erin")
	change, err := l.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(change.Added, change.Removed, change.Changed); got != "[erin] [alice] [bob carol dave]" {
		t.Errorf("change %s", got)
	}
	for _, c := range []struct {
		key     handshake.PublicKey
		service uint16
		want    string
	}{
		{alice, 7, "this key was removed"},
		{bob, 7, "another preshared key"},
		{carol, 7, ""},
		{dave, 22, ""},
		{dave, 7, "dave may not use service 7 here any more"},
	} {
		if got := change.Revoked(c.key, c.service); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v at %d: %q, want %q", c.key, c.service, got, c.want)
		}
	}
	if change, err = l.Reload(); err != nil || !change.Empty() {
		t.Errorf("the same file again: %+v %v", change, err)
	}
}

// What a client's handshakes have in common goes when its key does, and only then;
// there is room for nobody else.
func TestPrecomputed(t *testing.T) {
	alice, bob := newKey(), newKey()
	l, name := open(t, alice.String()+" alice", bob.String()+" bob")
	of := l.Precomputed(alice)
	if of == nil || l.Precomputed(bob) == nil || of == l.Precomputed(bob) || l.Precomputed(newKey()) != nil {
		t.Fatal("not one for each client")
	}
	for _, step := range []struct {
		lines []string
		want  *handshake.Precomputed
	}{
		{[]string{bob.String() + " bob", alice.String() + " alice services=ssh"}, of},
		{[]string{bob.String() + " bob"}, nil},
	} {
		write(t, name, step.lines...)
		if _, err := l.Reload(); err != nil {
			t.Fatal(err)
		}
		if l.Precomputed(alice) != step.want {
			t.Errorf("after %q: kept %v", step.lines, l.Precomputed(alice) != nil)
		}
	}
	write(t, name, alice.String()+" alice")
	if _, err := l.Reload(); err != nil {
		t.Fatal(err)
	}
	if again := l.Precomputed(alice); again == nil || again == of {
		t.Error("what was kept outlived the key")
	}
}

// Who takes the last client off the list means it.
func TestLastClientRemoved(t *testing.T) {
	alice := newKey()
	l, name := open(t, alice.String()+" alice")
	write(t, name, "# nobody for now")
	change, err := l.Reload()
	if err != nil || change.Revoked(alice, 7) == "" || l.Authorize(alice, 7).Allowed {
		t.Errorf("%+v %v: the client is still let in", change, err)
	}
	if w := l.Warnings(); len(w) != 1 || !strings.Contains(w[0], "nobody can connect") {
		t.Errorf("warnings %q", w)
	}
	if _, err := Open(name, services); err == nil {
		t.Error("a daemon starts with a list of nobody")
	}
}

// A file that is wrong or away leaves the list as it was and is told of.
func TestBadFileKeepsTheList(t *testing.T) {
	alice := newKey()
	l, name := open(t, alice.String()+" alice")
	read := l.State().Read
	for _, spoil := range []func(){
		func() { write(t, name, alice.String()) },
		func() { os.Remove(name) },
	} {
		spoil()
		if _, err := l.Reload(); err == nil {
			t.Fatal("a bad file was taken")
		}
		if !l.Authorize(alice, 7).Allowed {
			t.Error("the list before is gone")
		}
		if s := l.State(); s.Err == nil || s.Clients != 1 || !s.Read.Equal(read) || s.Failed.IsZero() {
			t.Errorf("state %+v", s)
		}
	}
	write(t, name, newKey().String()+" bob")
	if _, err := l.Reload(); err != nil || l.State().Err != nil || l.Authorize(alice, 7).Allowed {
		t.Errorf("mended: %v, state %+v", err, l.State())
	}
}

// A file that is being written takes nothing away, and what it adds is added.
func TestUnendedListTakesNothingAway(t *testing.T) {
	alice, bob, carol := newKey(), newKey(), newKey()
	l, name := open(t, alice.String()+" alice", bob.String()+" bob")
	put := func(text string) error {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := l.Reload()
		return err
	}
	whole := fmt.Sprintf("%v alice\n%v bob", alice, bob)
	for _, half := range []string{
		"", alice.String() + " alice", alice.String() + " al", "# nob", whole[:len(whole)-1],
		fmt.Sprintf("%v alice services=2\n%v bob services=2", alice, bob),
	} {
		if err := put(half); err == nil || !strings.Contains(err.Error(), "end its last line") {
			t.Errorf("%q: %v", half, err)
		}
		if !l.Authorize(alice, 7).Allowed || !l.Authorize(bob, 7).Allowed || l.State().Err == nil {
			t.Errorf("%q takes somebody away", half)
		}
	}
	if err := put(fmt.Sprintf("%s\n%v carol", whole, carol)); err != nil || !l.Authorize(carol, 7).Allowed || l.State().Err != nil {
		t.Errorf("one more, whose line has no end: %v, %+v", err, l.State())
	}
	if err := put(alice.String() + " alice\n"); err != nil || l.Authorize(bob, 7).Allowed {
		t.Errorf("the whole list: %v", err)
	}
	if err := put("\n"); err != nil || l.Authorize(alice, 7).Allowed {
		t.Errorf("a list of nobody: %v", err)
	}
}

// Every way that files change is noticed: in place, replaced, through links, and
// a preshared key in a file of its own.
func TestWatch(t *testing.T) {
	alice := newKey()
	directory, elsewhere := t.TempDir(), t.TempDir()
	real, name, secret := filepath.Join(elsewhere, "list"), filepath.Join(directory, "authorized_keys"), filepath.Join(elsewhere, "psk")
	next := func() string { text, _ := handshake.PSK(newKey()).MarshalText(); return string(text) }
	write(t, secret, next())
	write(t, real, alice.String()+" alice psk-file="+secret)
	if err := os.Symlink(real, name); err != nil {
		t.Fatal(err)
	}
	l, err := Open(name, services)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, looked := make(chan error), make(chan struct{}, 100)
	go func() { done <- l.Watch(ctx, func() { _, _ = l.Reload(); looked <- struct{}{} }) }()
	<-looked // it watches

	until := func(what string, f func() bool) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for !f() {
			select {
			case <-looked:
			case <-deadline:
				t.Fatalf("not noticed: %s", what)
			}
		}
	}
	psk := l.Authorize(alice, 7).PSK
	write(t, secret, next())
	until("another preshared key", func() bool { return l.Authorize(alice, 7).PSK != psk })
	write(t, real, alice.String()+" alicia")
	until("the target of the link is replaced", func() bool { return l.Authorize(alice, 7).Name == "alicia" })
	if err := os.WriteFile(real, []byte(alice.String()+" alina\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	until("written in place", func() bool { return l.Authorize(alice, 7).Name == "alina" })
	write(t, name, alice.String()+" alma")
	until("a file in the place of the link", func() bool { return l.Authorize(alice, 7).Name == "alma" })
	write(t, name, "nonsense")
	until("a bad file", func() bool { return l.State().Err != nil })
	write(t, name, alice.String()+" ada")
	until("mended", func() bool { return l.Authorize(alice, 7).Name == "ada" && l.State().Err == nil })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
}
