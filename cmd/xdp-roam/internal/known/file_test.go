// SPDX-License-Identifier: Apache-2.0

package known

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

func newFile(t *testing.T, lines ...string) *File {
	t.Helper()
	f := &File{filepath.Join(t.TempDir(), "xdp-roam", "known_servers")}
	if len(lines) > 0 {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func newKey() handshake.PublicKey { return handshake.NewPrivateKey().Public() }

func TestName(t *testing.T) {
	for server, want := range map[string]string{
		"Edge.Example.NET":         "edge.example.net:7626",
		"edge.example.net.:7626":   "edge.example.net:7626",
		"edge.example.net:443":     "edge.example.net:443",
		"192.0.2.1":                "192.0.2.1:7626",
		"[::ffff:192.0.2.1]:7626":  "192.0.2.1:7626",
		"2001:DB8:0::1":            "[2001:db8::1]:7626",
		"[2001:db8:0:0:0:0:0:1]:5": "[2001:db8::1]:5",
	} {
		if got, err := Name(server); err != nil || got != want {
			t.Errorf("%q: %q %v, want %q", server, got, err, want)
		}
	}
	for _, bad := range []string{"", "host:0", "ho st", "#host"} {
		if got, err := Name(bad); !errors.Is(err, client.ErrConfig) {
			t.Errorf("%q: %q %v", bad, got, err)
		}
	}
}

func TestAddLookupForget(t *testing.T) {
	a, b := newKey(), newKey()
	f := newFile(t)
	if found, err := f.Lookup("edge"); err != nil || len(found) != 0 {
		t.Errorf("no file: %v %v", found, err)
	}
	for _, err := range []error{f.Add("Edge", a), f.Add("edge:7626", a), f.Add("other:1", b)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if found, err := f.Lookup("EDGE."); err != nil || len(found) != 1 || found[0] != (Entry{"edge:7626", a, 1}) {
		t.Errorf("%v %v", found, err)
	}
	var changed *ChangedError
	if err := f.Add("edge", b); !errors.As(err, &changed) || changed.Key != b || changed.Known[0].Key != a ||
		!strings.Contains(err.Error(), f.Path+":1") || !strings.Contains(changed.Fix(), "known forget edge:7626") {
		t.Errorf("another key: %v", err)
	}
	info, err := os.Stat(f.Path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if n, err := f.Forget("edge"); err != nil || n != 1 {
		t.Errorf("forgot %d, %v", n, err)
	}
	if n, err := f.Forget("edge"); err != nil || n != 0 {
		t.Errorf("forgot again %d, %v", n, err)
	}
	if all, err := f.List(); err != nil || len(all) != 1 || all[0].Key != b {
		t.Errorf("left: %v %v", all, err)
	}
	if err := f.Add("edge", b); err != nil {
		t.Errorf("the other key now: %v", err)
	}
}

// Comments stay, a missing end of line does no harm, and a link stays a link.
func TestFileIsKept(t *testing.T) {
	a := newKey()
	f := newFile(t, "# mine", "", "edge "+a.String()+"  # no comment here")
	if _, err := f.List(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), ":3: ") {
		t.Errorf("a line with more than two words: %v", err)
	}
	f = newFile(t, "# mine", "", "edge "+a.String())
	link := &File{filepath.Join(t.TempDir(), "link")}
	if err := os.Symlink(f.Path, link.Path); err != nil {
		t.Skip(err)
	}
	if err := link.Add("other", a); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("# mine\n\nedge %v\nother:7626 %v\n", a, a)
	if text, _ := os.ReadFile(f.Path); string(text) != want {
		t.Errorf("%q, want %q", text, want)
	}
	if n, err := f.Forget("edge"); err != nil || n != 1 {
		t.Errorf("%d %v", n, err)
	}
	if text, _ := os.ReadFile(link.Path); string(text) != fmt.Sprintf("# mine\n\nother:7626 %v\n", a) {
		t.Errorf("%q", text)
	}
}

// A file that is damaged must not make a server look unknown.
func TestDamagedFile(t *testing.T) {
	for _, line := range []string{"edge", "edge AAAA", "edge:0 " + newKey().String(), newKey().String() + " edge"} {
		f := newFile(t, "# first", line)
		if found, err := f.Lookup("other"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), f.Path+":2: ") {
			t.Errorf("%q: %v %v", line, found, err)
		}
		before, _ := os.ReadFile(f.Path)
		if err := f.Add("other", newKey()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: added: %v", line, err)
		}
		if after, _ := os.ReadFile(f.Path); string(after) != string(before) {
			t.Errorf("%q became %q", before, after)
		}
	}
}

// Many at a time lose no line.
func TestAddFromManyProcesses(t *testing.T) {
	f := newFile(t)
	var wait sync.WaitGroup
	for i := range 20 {
		// A File of its own each: the lock is taken by open file, as between processes.
		wait.Go(func() {
			if err := (&File{f.Path}).Add(fmt.Sprintf("edge%d", i), newKey()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if all, err := f.List(); err != nil || len(all) != 20 {
		t.Errorf("%d entries, %v", len(all), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("edge " + newKey().String() + "\n# c\n\n[::1]:7 " + newKey().String()))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := &File{"f"}
		entries, err := file.parse(text)
		if err != nil {
			return
		}
		lines := strings.Split(string(text), "\n")
		for _, e := range entries {
			if words := strings.Fields(lines[e.Line-1]); len(words) != 2 || words[1] != e.Key.String() {
				t.Errorf("%q became %+v", lines[e.Line-1], e)
			}
		}
	})
}
