// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func newSecretText() string { return string(keyText(NewStateSecret())) }

func TestStateGenerations(t *testing.T) {
	s := NewState(NewStateSecret())
	keys := map[[16]byte]bool{s.IDKey(0): true}
	cookies := map[[32]byte]bool{s.CookieSecret(): true}
	for g := uint8(1); g < Generations; g++ {
		next, err := s.Next()
		if err != nil || next.Newest() != g || !next.Holds(g) || next.IDKey(0) != s.IDKey(0) || next.ResetKey(0) != s.ResetKey(0) {
			t.Fatalf("generation %d: %v, %v", g, next, err)
		}
		s = next
		keys[s.IDKey(g)] = true
		cookies[s.CookieSecret()] = true
	}
	if len(keys) != Generations || len(cookies) != Generations {
		t.Errorf("%d id keys and %d cookie secrets of %d generations", len(keys), len(cookies), Generations)
	}
	if _, err := s.Next(); !errors.Is(err, ErrGenerations) {
		t.Errorf("a fifth: %v", err)
	}
	if s.Without(3) != s {
		t.Error("the newest generation can be dropped")
	}
	s = s.Without(0)
	if s.Holds(0) || s.IDKey(0) != [16]byte{} {
		t.Error("a dropped generation has a key")
	}
	if s, err := s.Next(); err != nil || s.Newest() != 0 || !s.Holds(0) || !s.Holds(1) {
		t.Errorf("number 0 again: %v, %v", s, err)
	}
}

// The file keeps every generation, and which is the newest; one of the first
// release, a secret alone, is generation 0.
func TestStateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, StateSecretFile)
	old := NewStateSecret()
	if err := os.WriteFile(path, append(keyText(old), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := LoadState(dir)
	if err != nil || s != NewState(old) {
		t.Fatalf("a secret alone: %v, %v", s, err)
	}
	first := s
	for i := range 6 {
		next, err := s.Next()
		if errors.Is(err, ErrGenerations) {
			next, err = s.Without((s.Newest() + 1) % Generations).Next()
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := SaveState(dir, s, next); err != nil {
			t.Fatal(err)
		}
		if s, err = LoadState(dir); err != nil || s != next {
			t.Fatalf("rotation %d: %v instead of %v, %v", i, s, next, err)
		}
	}
	if err := SaveState(dir, first, first); !errors.Is(err, ErrStateSecret) {
		t.Errorf("writing over another's state: %v", err)
	}
	if again, err := LoadState(dir); err != nil || again != s {
		t.Errorf("that changed it: %v, %v", again, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v %v", files, err)
	}
}

// A rotated cookie secret holds from an epoch on; the cookies of the epochs
// before stay good, in whatever order they are looked at.
func TestCookieRotation(t *testing.T) {
	const now = 1000 * CookieEpoch
	src, dst := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	old, young := NewCookies([32]byte{1}, 0), NewCookies([32]byte{2}, 0)
	c := NewCookies([32]byte{1}, 0)
	c.Key(1001) // cached before the rotation, and wrong after it
	c.Rotate([32]byte{2}, 1001)
	for unix, by := range map[uint32]*Cookies{now: old, now + CookieEpoch - 1: old, now + CookieEpoch: young, now + 2*CookieEpoch: young} {
		made := by.Make(unix, wire.ID{1}, src, dst)
		if !c.Valid(unix, made, wire.ID{1}, src, dst) || c.Make(unix, wire.ID{1}, src, dst) != made {
			t.Errorf("%d: not the cookie of the secret in force", unix)
		}
	}
	last := old.Make(now+CookieEpoch-1, wire.ID{1}, src, dst)
	if !c.Valid(now+CookieEpoch+5, last, wire.ID{1}, src, dst) {
		t.Error("a cookie of the last second before is not good any more")
	}
	c.Rotate([32]byte{3}, 1001) // again, before that epoch began
	if !c.Valid(now, old.Make(now, wire.ID{1}, src, dst), wire.ID{1}, src, dst) || c.Key(1001) == young.Key(1001) {
		t.Error("after a second rotation within the epoch the wrong secret is in force")
	}
}
