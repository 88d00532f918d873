// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestKeyText(t *testing.T) {
	private := NewPrivateKey()
	public := private.Public()
	psk := PSK(NewPrivateKey())
	for _, tc := range []struct {
		from encoding.TextMarshaler
		to   encoding.TextUnmarshaler
	}{
		{private, new(PrivateKey)},
		{public, new(PublicKey)},
		{psk, new(PSK)},
	} {
		text, err := tc.from.MarshalText()
		if err != nil || len(text) != 44 {
			t.Fatalf("%T: %q %v", tc.from, text, err)
		}
		if err := tc.to.UnmarshalText([]byte(" \t" + string(text) + "\r\n")); err != nil {
			t.Errorf("%T: %v", tc.from, err)
		}
		again, err := tc.to.(encoding.TextMarshaler).MarshalText()
		if err != nil || string(again) != string(text) {
			t.Errorf("%T: %s became %s, %v", tc.from, text, again, err)
		}
	}
}

func TestBadKeyText(t *testing.T) {
	good := NewPrivateKey().Public().String()
	for name, text := range map[string]string{
		"empty":           "",
		"a word":          "hello",
		"cut off":         good[:43],
		"too long":        good + "A",
		"two keys":        good + "\n" + good,
		"not base64":      strings.Repeat("!", 43) + "=",
		"url base64":      strings.Repeat("-", 43) + "=",
		"no padding":      strings.Repeat("A", 44),
		"31 bytes":        strings.Repeat("A", 42) + "==",
		"stray low bits":  strings.Repeat("A", 42) + "B=",
		"hex":             strings.Repeat("0", 64),
		"public key zero": strings.Repeat("A", 43) + "=",
	} {
		k := PublicKey{1, 2, 3}
		err := k.UnmarshalText([]byte(text))
		if !errors.Is(err, ErrBadKey) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if k != (PublicKey{1, 2, 3}) {
			t.Errorf("%s: the key changed", name)
		}
		if !strings.Contains(err.Error(), "xdp-roam") {
			t.Errorf("%s: the error names no way out: %v", name, err)
		}
	}
	if err := new(PrivateKey).UnmarshalText([]byte("s3cretBytes")); strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error repeats what may be a secret: %v", err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	private := NewPrivateKey()
	text, _ := private.MarshalText()
	for _, verb := range []string{"%v", "%s", "%x", "%+v", "%#v", "%q"} {
		for _, secret := range []any{private, PSK(private), StateSecret(private), NewState(StateSecret(private)), struct{ K PrivateKey }{private}} {
			out := fmt.Sprintf(verb, secret)
			if strings.Contains(out, string(text)) || strings.Contains(strings.ToLower(out), fmt.Sprintf("%x", private[:4])) ||
				strings.Contains(out, fmt.Sprint(private[0], private[1], private[2])) {
				t.Errorf("%s of %T shows it: %s", verb, secret, out)
			}
		}
	}
}

func FuzzKeyText(f *testing.F) {
	f.Add(NewPrivateKey().Public().String())
	f.Add("")
	f.Add(strings.Repeat("A", 42) + "B=")
	f.Fuzz(func(t *testing.T, text string) {
		var k PublicKey
		if err := k.UnmarshalText([]byte(text)); err != nil {
			if !errors.Is(err, ErrBadKey) {
				t.Fatal(err)
			}
			return
		}
		if strings.TrimSpace(text) != k.String() {
			t.Fatalf("%q is a second way to write %v", text, k)
		}
	})
}

func TestStateSecretFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := LoadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadState(dir)
	if err != nil || again != first || first.IsZero() {
		t.Errorf("loaded again: same %v, %v", again == first, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("left behind: %v %v", files, err)
	}
	path := filepath.Join(dir, StateSecretFile)
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	if runtime.GOOS != "windows" {
		for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadState(dir)
			if !errors.Is(err, ErrStateSecret) || !strings.Contains(err.Error(), "chmod 600 "+path) {
				t.Errorf("mode %o: %v", mode, err)
			}
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"empty": "", "cut off": "abc", "too long": strings.Repeat("A", 100),
		"no generation": "4 " + newSecretText(), "twice": "1 " + newSecretText() + "\n1 " + newSecretText(), "three words": "0 1 " + newSecretText() + "x"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadState(dir); !errors.Is(err, ErrStateSecret) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%s: the file was replaced, and with it every id that it made: %q %v", name, got, err)
		}
	}
}

func TestStateSecretWhereNoneCanBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadState(filepath.Join(file, "sub")); !errors.Is(err, ErrStateSecret) {
		t.Errorf("got %v", err)
	}
}

// Processes that start together end up with one secret.
func TestStateSecretRace(t *testing.T) {
	dir := t.TempDir()
	const n = 8
	secrets := make(chan State, n)
	for range n {
		go func() {
			s, err := LoadState(dir)
			if err != nil {
				t.Error(err)
			}
			secrets <- s
		}()
	}
	first := <-secrets
	for range n - 1 {
		if s := <-secrets; s != first {
			t.Error("two secrets")
		}
	}
}

// The keys that come from one secret share nothing, and stay the same for good:
// a change would orphan every id of a running fleet.
func TestStateSecretKeys(t *testing.T) {
	s := StateSecret{1}
	seen := map[string]string{}
	add := func(name string, key []byte) {
		if other := seen[string(key[:16])]; other != "" {
			t.Errorf("%s and %s are the same", name, other)
		}
		seen[string(key[:16])] = name
	}
	for g := range uint8(4) {
		k := s.IDKey(g)
		add(fmt.Sprint("id key ", g), k[:])
	}
	cookie, reset := s.CookieSecret(), s.ResetKey()
	add("cookie secret", cookie[:])
	add("reset key", reset[:])
	if a, b := ResetToken(reset, wire.ID{1}), ResetToken(reset, wire.ID{2}); a == b {
		t.Error("two ids have the same reset token")
	}
	if got, want := fmt.Sprintf("%x", s.IDKey(0)), idKeyZero; got != want {
		t.Errorf("id key 0 is %s, was %s", got, want)
	}
	if got, want := fmt.Sprintf("%x", cookie), cookieSecretOne; got != want {
		t.Errorf("cookie secret is %s, was %s", got, want)
	}
}

// Computed apart from this package, for the secret 01 00 .. 00: HMAC-SHA256(secret,
// label || 01), as HKDF-Expand is for one block.
const (
	idKeyZero       = "dacffa6ba8be7879306f734cd4be3157"
	cookieSecretOne = "3f7db913f066866cc429d0bac3ad972aee11dabd75a3228d9b1f27a531e081c7"
)
