// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// StateSecretFile is the name of the file in the state directory.
const StateSecretFile = "state-secret"

// ErrStateSecret means that the state secret cannot be used. The error that
// wraps it says why and how to mend it.
var ErrStateSecret = errors.New("state secret")

// StateSecret is what a server's ids, cookies and stateless resets hang on. It
// is apart from the server's identity so that a fleet can share it, and it must
// outlive a restart: without it, clients of the process before are not told that
// their sessions are gone.
type StateSecret [32]byte

// String hides the secret.
func (s StateSecret) String() string { return "(state secret)" }

// GoString hides the secret from %#v.
func (s StateSecret) GoString() string { return s.String() }

// IDKey returns the key of the tag inside the session ids of a generation (0 to
// 3), for SipHash-1-3.
func (s StateSecret) IDKey(generation uint8) [16]byte {
	return [16]byte(expand(s, "roam1 id key"+string([]byte{generation}), 16))
}

// CookieSecret returns the secret for NewCookies.
func (s StateSecret) CookieSecret() [32]byte {
	return [32]byte(expand(s, "roam1 cookie secret", 32))
}

// ResetKey returns the key for ResetToken.
func (s StateSecret) ResetKey() [32]byte {
	return [32]byte(expand(s, "roam1 reset", 32))
}

// ResetToken returns the stateless reset token of an id.
func ResetToken(resetKey [32]byte, id wire.ID) wire.Token {
	h := hmac.New(sha256.New, resetKey[:])
	h.Write(id[:])
	return wire.Token(h.Sum(nil)[:len(wire.Token{})])
}

// expand is HKDF-Expand-SHA256 over a secret that is uniformly random, so that
// it needs no HKDF-Extract.
func expand(secret [32]byte, info string, n int) []byte {
	out, err := hkdf.Expand(sha256.New, secret[:], info, n)
	if err != nil { // only for a length beyond 255 hashes
		panic("handshake: " + err.Error())
	}
	return out
}

// LoadOrCreateStateSecret reads the secret from its file in the directory dir,
// which it makes, with mode 0700, and fills with a fresh secret when they are
// not there. Errors wrap ErrStateSecret and what the system said.
func LoadOrCreateStateSecret(dir string) (StateSecret, error) {
	path := filepath.Join(dir, StateSecretFile)
	s, err := loadStateSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createStateSecret(dir, path); err != nil {
			return StateSecret{}, fmt.Errorf("%w: cannot create %s: %w; name another state directory or make this one writable", ErrStateSecret, path, err)
		}
		// Read it back rather than trust what was written: when two processes start
		// at once, both must end up with the file of the one that came first.
		s, err = loadStateSecret(path)
	}
	return s, err
}

func loadStateSecret(path string) (StateSecret, error) {
	f, err := os.Open(path)
	if err != nil {
		return StateSecret{}, fmt.Errorf("%w: %w", ErrStateSecret, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return StateSecret{}, fmt.Errorf("%w: %w", ErrStateSecret, err)
	}
	// Windows has no such bits; it shows every file as readable by all.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return StateSecret{}, fmt.Errorf("%w: %s has mode %04o, so other users can read or change it; "+
			"chmod 600 %s, or delete it if they may have read it", ErrStateSecret, path, mode, path)
	}
	// One byte more than there should be, to notice what is too long.
	text := make([]byte, 64)
	n, err := f.Read(text)
	if err != nil && n == 0 {
		return StateSecret{}, fmt.Errorf("%w: %s is empty or cannot be read: %w; delete it to have a fresh one made", ErrStateSecret, path, err)
	}
	var s StateSecret
	if err := parseKey((*[KeyLen]byte)(&s), text[:n], "a state secret", "delete the file to have a fresh one made"); err != nil {
		return StateSecret{}, fmt.Errorf("%w: %s: %w", ErrStateSecret, path, err)
	}
	return s, nil
}

// createStateSecret puts the file in place complete or not at all, and never
// replaces one that another process made meanwhile.
func createStateSecret(dir, path string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, StateSecretFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	var s StateSecret
	_, _ = rand.Read(s[:]) // never fails
	_, err = tmp.Write(append(keyText(s), '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	// A link, unlike a rename, fails if the name is taken.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
