// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

const (
	keyA = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="
	keyB = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI="
)

func TestParseAuthorized(t *testing.T) {
	text := "# who may connect\n\n" + keyA + " alice\n\t " + keyB + "\t bob of  the lab \r\n# end"
	keys, err := ParseAuthorized("f", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var a, b handshake.PublicKey
	a[31], b[31] = 1, 2
	if len(keys) != 2 || keys[a] != "alice" || keys[b] != "bob of  the lab" {
		t.Errorf("got %v", keys)
	}
}

func TestBadAuthorized(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":        {"", []string{"f: no key in it"}},
		"comment only": {"# " + keyA + " alice\n", []string{"f: no key in it"}},
		"no key":       {"alice\n", []string{"f:1: "}},
		"no name":      {keyA + "\n", []string{"f:1: the key has no name"}},
		"only spaces":  {keyA + "   \n", []string{"f:1: the key has no name"}},
		"short key":    {"AAAA alice\n", []string{"f:1: "}},
		"long key":     {"AA" + keyA + " alice\n", []string{"f:1: "}},
		"not base64":   {strings.Replace(keyA, "A", "!", 1) + " alice\n", []string{"f:1: "}},
		"url base64":   {strings.Replace(keyA, "A", "_", 1) + " alice\n", []string{"f:1: "}},
		"name first":   {"\nalice " + keyA + "\n", []string{"f:2: "}},
		"zero key":     {strings.Repeat("A", 43) + "= nobody\n", []string{"f:1: ", "zero"}},
		"key twice":    {keyA + " alice\n#\n" + keyA + " bob\n", []string{`f:3: the key of "bob" is on line 1 already, as "alice"`}},
		"name twice":   {keyA + " alice\n" + keyB + " alice\n", []string{`f:2: the name "alice" is on line 1 already`}},
		"control":      {keyA + " al\x1bice\n", []string{"f:1: the name", "control characters"}},
		"every line":   {"x y\n" + keyA + " ok\nz\n", []string{"f:1: ", "f:3: "}},
		"huge line":    {keyA + " a\n" + strings.Repeat("b", 70_000) + "\n", []string{"f:2: "}},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := ParseAuthorized("f", strings.NewReader(c.text))
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
	if _, err := ReadAuthorized(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

// Whatever is accepted has a name for each key, and every key can be found in
// the text: nobody gets in by a line that was misread.
func FuzzParseAuthorized(f *testing.F) {
	f.Add([]byte(keyA + " alice\n# c\n" + keyB + "\tbob\n"))
	f.Add([]byte(keyA))
	f.Add([]byte("=\x00 \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := ParseAuthorized("f", bytes.NewReader(text))
		if (err == nil) == (len(keys) == 0) {
			t.Fatalf("keys %v with error %v", keys, err)
		}
		for key, name := range keys {
			if name == "" || !bytes.Contains(text, []byte(name)) || !bytes.Contains(text, []byte(key.String())) {
				t.Errorf("%q: key %v named %q", text, key, name)
			}
		}
	})
}
