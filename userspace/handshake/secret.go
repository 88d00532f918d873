// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// StateSecret is what a server's ids, cookies and stateless resets hang on. It
// is apart from the server's identity so that a fleet can share it, and it must
// outlive a restart: without it, clients of the process before are not told that
// their sessions are gone.
type StateSecret [32]byte

// NewStateSecret returns a secret from the system's random source.
func NewStateSecret() (s StateSecret) {
	_, _ = rand.Read(s[:]) // never fails: crypto/rand ends the program instead
	return s
}

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
	return newTokenMaker(&resetKey).token(id)
}

// ResetTokens is ResetToken for many ids of one key, without allocating: a server
// makes one for each id that it issues. Any number of goroutines may use it.
type ResetTokens struct{ makers sync.Pool }

// NewResetTokens returns the ResetTokens of a key.
func NewResetTokens(resetKey [32]byte) *ResetTokens {
	return &ResetTokens{sync.Pool{New: func() any { return newTokenMaker(&resetKey) }}}
}

// Token returns the stateless reset token of an id.
func (r *ResetTokens) Token(id wire.ID) wire.Token {
	m := r.makers.Get().(*tokenMaker)
	defer r.makers.Put(m)
	return m.token(id)
}

// tokenMaker makes one token at a time. Locals would escape to the heap by mac.
type tokenMaker struct {
	mac hash.Hash
	id  wire.ID
	sum [sha256.Size]byte
}

func newTokenMaker(resetKey *[32]byte) *tokenMaker {
	return &tokenMaker{mac: hmac.New(sha256.New, resetKey[:])}
}

func (m *tokenMaker) token(id wire.ID) wire.Token {
	m.id = id
	m.mac.Reset()
	m.mac.Write(m.id[:])
	return wire.Token(m.mac.Sum(m.sum[:0])[:len(wire.Token{})])
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
