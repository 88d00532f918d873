// SPDX-License-Identifier: Apache-2.0

// Package mac is HMAC-SHA256 (RFC 2104) and HKDF-Expand (RFC 5869) for secrets of 32
// bytes and short messages. crypto/hmac and crypto/hkdf give the same bytes, and
// allocate up to a kilobyte for each call: a session that moves needs three of them,
// and a server has 100,000 of those a second.
package mac

import (
	"crypto/sha256"
	"crypto/subtle"
)

const (
	size  = sha256.Size
	block = sha256.BlockSize
	// MaxMessage is the longest message of Sum, MaxInfo the longest info of Expand.
	MaxMessage = 128
	MaxInfo    = MaxMessage - size - 1
)

// The bytes that the key is XORed with, for the whole block: a shorter key is
// followed by zeros.
var inner, outer = pad(0x36), pad(0x5c)

func pad(b byte) (p [block]byte) {
	for i := range p {
		p[i] = b
	}
	return p
}

// Sum returns the HMAC-SHA256 of a message. It panics if that is longer than
// MaxMessage.
func Sum(key *[size]byte, message []byte) [size]byte {
	if len(message) > MaxMessage {
		panic("mac: the message is too long")
	}
	var in [block + MaxMessage]byte
	copy(in[:], inner[:])
	subtle.XORBytes(in[:size], in[:size], key[:])
	n := block + copy(in[block:], message)
	hash := sha256.Sum256(in[:n])

	var out [block + size]byte
	copy(out[:], outer[:])
	subtle.XORBytes(out[:size], out[:size], key[:])
	copy(out[block:], hash[:])
	return sha256.Sum256(out[:])
}

// Expand fills okm with HKDF-Expand-SHA256 of a secret that is uniformly random, so
// that it needs no HKDF-Extract. It panics if info is longer than MaxInfo, or okm
// than 255 hashes.
func Expand(secret *[size]byte, info, okm []byte) {
	if len(info) > MaxInfo || len(okm) > 255*size {
		panic("mac: the info or the key is too long")
	}
	var message [MaxMessage]byte // the hash before, but for the first; info; the number
	n := copy(message[size:], info)
	for i := byte(1); len(okm) > 0; i++ {
		from := size
		if i > 1 {
			from = 0
		}
		message[size+n] = i
		hash := Sum(secret, message[from:size+n+1])
		copy(message[:], hash[:])
		okm = okm[copy(okm, hash[:]):]
	}
}
