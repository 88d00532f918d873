// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/hex"
	"fmt"
)

// IDLen is the length of a session id and of a handshake id in bytes.
const IDLen = 16

// ID names a session (in DATA) or an attempt to open one (in INIT, RETRY, RESP
// and VERSIONS). To everyone but its issuer it is 16 opaque bytes. An id is a
// name, never a secret.
type ID [IDLen]byte

// String returns the id as 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether every byte of the id is zero, which no issued id is
// except with negligible probability.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns what String returns.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText takes 32 hexadecimal digits.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*IDLen {
		return fmt.Errorf("an id has %d hexadecimal digits, not %d", 2*IDLen, len(text))
	}
	if _, err := hex.Decode(id[:], text); err != nil {
		return fmt.Errorf("an id has %d hexadecimal digits: %w", 2*IDLen, err)
	}
	return nil
}

// Cookie is either the address cookie of RETRY and INIT or the 16 random bytes
// of CHALLENGE, RESPONSE and NOT_PREFERRED.
type Cookie [16]byte

// String returns the cookie as 32 hexadecimal digits.
func (c Cookie) String() string { return hex.EncodeToString(c[:]) }

// IsZero reports whether the cookie is the INIT field's "none".
func (c Cookie) IsZero() bool { return c == Cookie{} }

// Token is the stateless reset token that its issuer sends with an id. Unlike
// the id it is a secret: compare it in constant time and do not log it.
type Token [16]byte

// String returns the token as 32 hexadecimal digits.
func (t Token) String() string { return hex.EncodeToString(t[:]) }

// IsZero reports whether every byte of the token is zero.
func (t Token) IsZero() bool { return t == Token{} }
