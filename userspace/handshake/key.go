// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
)

// KeyLen is the length of every key of this package in bytes.
const KeyLen = 32

// ErrBadKey means that a text or a value is no key. The error that wraps it says
// why and how to mend it.
var ErrBadKey = errors.New("not a key")

// PrivateKey is an X25519 scalar. Its text form, by MarshalText, is standard
// base64; String hides it, so that no log line shows it by accident.
type PrivateKey [KeyLen]byte

// PublicKey is an X25519 point: who a server or a client is.
type PublicKey [KeyLen]byte

// PSK is a secret that server and clients share beforehand. All zero means none.
type PSK [KeyLen]byte

// NewPrivateKey returns a key from the system's random source.
func NewPrivateKey() PrivateKey {
	var k PrivateKey
	_, _ = rand.Read(k[:]) // never fails: crypto/rand ends the program instead
	return k
}

// IsZero reports whether the key was never set.
func (k PrivateKey) IsZero() bool { return k == PrivateKey{} }

// Public returns the public key that belongs to k.
func (k PrivateKey) Public() PublicKey {
	priv, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil { // only for another length than 32
		panic("handshake: " + err.Error())
	}
	return PublicKey(priv.PublicKey().Bytes())
}

// String hides the key.
func (k PrivateKey) String() string { return "(private key)" }

// GoString hides the key from %#v.
func (k PrivateKey) GoString() string { return k.String() }

// MarshalText returns the key as 44 characters of base64.
func (k PrivateKey) MarshalText() ([]byte, error) { return keyText(k), nil }

// UnmarshalText reads what MarshalText writes, with white space around it
// allowed. Its errors wrap ErrBadKey and do not repeat the text.
func (k *PrivateKey) UnmarshalText(text []byte) error {
	return parseKey((*[KeyLen]byte)(k), text, "a private key", "`xdp-roam keygen` makes one")
}

// IsZero reports whether the key was never set. No usable key is zero.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// String returns the key as 44 characters of base64.
func (k PublicKey) String() string { return string(keyText(k)) }

// MarshalText returns the key as 44 characters of base64.
func (k PublicKey) MarshalText() ([]byte, error) { return keyText(k), nil }

// UnmarshalText reads what MarshalText writes, with white space around it
// allowed. Its errors wrap ErrBadKey.
func (k *PublicKey) UnmarshalText(text []byte) error {
	const fix = "`xdp-roam pubkey` prints the one of a private key"
	var parsed PublicKey
	if err := parseKey((*[KeyLen]byte)(&parsed), text, "a public key", fix); err != nil {
		return err
	}
	if parsed.IsZero() {
		return fmt.Errorf("%w: all its bytes are zero, which belongs to no private key; %s", ErrBadKey, fix)
	}
	*k = parsed
	return nil
}

// IsZero reports whether no secret is shared.
func (k PSK) IsZero() bool { return k == PSK{} }

// String hides the secret.
func (k PSK) String() string { return "(preshared key)" }

// GoString hides the secret from %#v.
func (k PSK) GoString() string { return k.String() }

// MarshalText returns the secret as 44 characters of base64.
func (k PSK) MarshalText() ([]byte, error) { return keyText(k), nil }

// UnmarshalText reads what MarshalText writes, with white space around it
// allowed. Its errors wrap ErrBadKey and do not repeat the text.
func (k *PSK) UnmarshalText(text []byte) error {
	return parseKey((*[KeyLen]byte)(k), text, "a preshared key", "`xdp-roam genpsk` makes one")
}

func keyText(k [KeyLen]byte) []byte {
	return base64.StdEncoding.AppendEncode(nil, k[:])
}

// parseKey reads base64 into k, which it leaves alone if it fails.
func parseKey(k *[KeyLen]byte, text []byte, what, fix string) error {
	text = bytes.TrimSpace(text)
	if want := base64.StdEncoding.EncodedLen(KeyLen); len(text) != want {
		return fmt.Errorf("%w: %d characters where %s has %d of base64 (32 bytes); %s", ErrBadKey, len(text), what, want, fix)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("%w: %s is base64 (A-Z a-z 0-9 + / and one = at the end), which this is not: %w; %s", ErrBadKey, what, err, fix)
	}
	if len(raw) != KeyLen {
		return fmt.Errorf("%w: %s is 32 bytes in base64, this is %d; %s", ErrBadKey, what, len(raw), fix)
	}
	copy(k[:], raw)
	return nil
}
