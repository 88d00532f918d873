// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

const (
	keyA = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="
	keyB = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI="
)

// testServices are those that a list may name.
var testServices = []Service{{Port: 7, Name: "echo"}, {Port: 22, Name: "ssh"}, {Port: 53}}

// testPSK reads the one preshared key file that tests have.
func testPSK(path string) (handshake.PSK, error) {
	if path != filepath.Join("dir", "alice.psk") {
		return handshake.PSK{}, fmt.Errorf("no %s", path)
	}
	return handshake.PSK{9}, nil
}

func parseAuthorized(text string) (*Authorized, error) {
	return ParseAuthorized(filepath.Join("dir", "f"), strings.NewReader(text), testServices, testPSK)
}

func TestParseAuthorized(t *testing.T) {
	text := "# who may connect\n\n" + keyA + " alice psk-file=alice.psk\n\t " + keyB + "\t bob  services=ssh,53,ssh,echo sessions=2 psk=" + keyA + " # of the lab \r\n# end"
	list, err := parseAuthorized(text)
	if err != nil {
		t.Fatal(err)
	}
	var a, b handshake.PublicKey
	a[31], b[31] = 1, 2
	want := map[handshake.PublicKey]Client{
		a: {Name: "alice", PSK: handshake.PSK{9}, Line: 3},
		b: {Name: "bob", Services: []uint16{7, 22, 53}, PSK: handshake.PSK(a), Sessions: 2, Line: 4},
	}
	if !reflect.DeepEqual(list.Clients, want) {
		t.Errorf("got %+v", list.Clients)
	}
	if len(list.Warnings) > 0 || !slices.Equal(list.PSKFiles, []string{filepath.Join("dir", "alice.psk")}) {
		t.Errorf("warnings %q, files %q", list.Warnings, list.PSKFiles)
	}
	for service, may := range map[uint16]bool{7: true, 22: true, 53: true, 80: false} {
		if list.Clients[b].MayUse(service) != may || !list.Clients[a].MayUse(service) {
			t.Errorf("service %d: alice %v, bob %v", service, list.Clients[a].MayUse(service), list.Clients[b].MayUse(service))
		}
	}
}

func TestAuthorizedServiceThatIsNone(t *testing.T) {
	list, err := parseAuthorized(keyA + " alice services=99\n")
	if err != nil || len(list.Warnings) != 1 || !strings.Contains(list.Warnings[0], "f:1: there is no service 99") {
		t.Errorf("%+v %v", list, err)
	}
}

// What others can do to the file is told, and a secret that all can read is refused.
func TestAuthorizedModes(t *testing.T) {
	directory := t.TempDir()
	name := filepath.Join(directory, "authorized_keys")
	write := func(name, text string, mode fs.FileMode) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		line      string
		mode      fs.FileMode
		directory fs.FileMode
		want      string
	}{
		{keyA + " alice\n", 0o644, 0o755, ""},
		{keyA + " alice\n", 0o664, 0o755, "chmod go-w"},
		{keyA + " alice psk=" + keyB + "\n", 0o600, 0o755, ""},
		{keyA + " alice psk=" + keyB + "\n", 0o640, 0o755, "chmod go-r"},
		{keyA + " alice psk-file=secret\n", 0o644, 0o755, ""},
		{keyA + " alice\n", 0o644, 0o777, "the directory"},
	} {
		write(name, c.line, c.mode)
		write(filepath.Join(directory, "secret"), keyB, 0o600)
		if err := os.Chmod(directory, c.directory); err != nil {
			t.Fatal(err)
		}
		list, err := ReadAuthorized(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if warnings := strings.Join(list.Warnings, "\n"); (c.want == "") != (warnings == "") || !strings.Contains(warnings, c.want) {
			t.Errorf("%q with mode %o in %o: %q, want %q", c.line, c.mode, c.directory, warnings, c.want)
		}
	}
	write(name, keyA+" alice psk-file=secret\n", 0o600)
	write(filepath.Join(directory, "secret"), keyB, 0o644)
	if _, err := ReadAuthorized(name, nil); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "authorized_keys:1: the preshared key") {
		t.Errorf("a secret that everyone can read: %v", err)
	}
}

func TestBadAuthorized(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"no key":        {"alice\n", []string{"f:1: "}},
		"no name":       {keyA + "\n", []string{"f:1: the key has no name"}},
		"only spaces":   {keyA + "   \n", []string{"f:1: the key has no name"}},
		"short key":     {"AAAA alice\n", []string{"f:1: "}},
		"long key":      {"AA" + keyA + " alice\n", []string{"f:1: "}},
		"not base64":    {strings.Replace(keyA, "A", "!", 1) + " alice\n", []string{"f:1: "}},
		"url base64":    {strings.Replace(keyA, "A", "_", 1) + " alice\n", []string{"f:1: "}},
		"name first":    {"\nalice " + keyA + "\n", []string{"f:2: "}},
		"zero key":      {strings.Repeat("A", 43) + "= nobody\n", []string{"f:1: ", "zero"}},
		"key twice":     {keyA + " alice\n#\n" + keyA + " bob\n", []string{`f:3: the key of "bob" is on line 1 already, as "alice"`}},
		"name twice":    {keyA + " alice\n" + keyB + " alice\n", []string{`f:2: the name "alice" is on line 1 already`}},
		"control":       {keyA + " al\x1bice\n", []string{"f:1: the name", "cannot be printed"}},
		"C1 control":    {keyA + " al\u009bice\n", []string{"f:1: the name", "cannot be printed"}},
		"right to left": {keyA + " al\u202eice\n", []string{"f:1: the name", "cannot be printed"}},
		"no UTF-8":      {keyA + " al\x9bice\n", []string{"f:1: the name", "cannot be printed"}},
		"two words":     {keyA + " alice ssh\n", []string{`f:1: "ssh" is no option, and a name is one word`, "services="}},
		"option first":  {keyA + " services=7 alice\n", []string{"f:1: the key has no name"}},
		"bad option":    {keyA + " alice service=7\n", []string{`f:1: unknown option "service"`, `did you mean "services"?`}},
		"twice":         {keyA + " alice sessions=1 sessions=2\n", []string{"f:1: sessions= is given twice"}},
		"no service":    {keyA + " alice services=\n", []string{"f:1: services= has an empty place"}},
		"comma":         {keyA + " alice services=7,,8\n", []string{"f:1: services= has an empty place"}},
		"service 0":     {keyA + " alice services=0\n", []string{`f:1: "0" is no service`}},
		"service name":  {keyA + " alice services=http\n", []string{`f:1: "http" is no service`, "echo, ssh"}},
		"sessions":      {keyA + " alice sessions=0\n", []string{"f:1: sessions=0: write a number from 1"}},
		"psk":           {keyA + " alice psk=secret\n", []string{"f:1: psk=: not a key"}},
		"zero psk":      {keyA + " alice psk=" + strings.Repeat("A", 43) + "=\n", []string{"f:1: psk=: all its bytes are zero"}},
		"two psk":       {keyA + " alice psk=" + keyB + " psk-file=alice.psk\n", []string{"f:1: psk= and psk-file= contradict"}},
		"no psk file":   {keyA + " alice psk-file=\n", []string{"f:1: psk-file= names no file"}},
		"psk file":      {keyA + " alice psk-file=bob.psk\n", []string{"f:1: no ", "bob.psk"}},
		"every line":    {"x y\n" + keyA + " ok\nz\n", []string{"f:1: ", "f:3: "}},
		"huge line":     {keyA + " a\n" + strings.Repeat("b", 70_000) + "\n", []string{"f:2: "}},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := parseAuthorized(c.text)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%v, error %v, want ErrInvalid", keys, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestReadAuthorizedMissing(t *testing.T) {
	if _, err := ReadAuthorized(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

// Whatever is accepted has a name for each key, and every key and name stands in
// the text, on the line that is told: nobody gets in, and nobody gets more, by a
// line that was misread.
func FuzzParseAuthorized(f *testing.F) {
	f.Add([]byte(keyA + " alice\n# c\n" + keyB + "\tbob\n"))
	f.Add([]byte(keyA))
	f.Add([]byte("=\x00 \n"))
	f.Add([]byte(" "))
	f.Add([]byte(keyA + " alice services=7,ssh psk=" + keyB + " sessions=3 # c\n" + keyB + " bob psk-file=alice.psk"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseAuthorized(string(text))
		if (err == nil) != (list != nil) || err == nil && len(list.Clients) == 0 && len(list.Warnings) == 0 {
			t.Fatalf("%+v with error %v", list, err)
		}
		if err != nil {
			return
		}
		lines := strings.Split(string(text), "\n")
		for key, client := range list.Clients {
			words := strings.Fields(lines[client.Line-1])
			if words[0] != key.String() || words[1] != client.Name {
				t.Errorf("%q: key %v named %q", words, key, client.Name)
			}
			limited := slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "services=") })
			comment := slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "#") })
			if limited == (client.Services == nil) && !comment || client.Services != nil && len(client.Services) == 0 {
				t.Errorf("%q: services %v", words, client.Services)
			}
		}
	})
}

// A list without a key is one, though none to begin with.
func TestAuthorizedOfNobody(t *testing.T) {
	for _, text := range []string{"", "# " + keyA + " alice\n"} {
		a, err := parseAuthorized(text)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "f: no key in it") {
			t.Errorf("%q: warnings %q", text, a.Warnings)
		}
		if err := a.Check("f"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "f: no key in it") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if a, err := parseAuthorized(keyA + " alice\n"); err != nil || a.Check("f") != nil {
		t.Errorf("a list of one: %v", err)
	}
}
