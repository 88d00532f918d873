// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	keyLen   = 32
	nonceLen = 12
)

// idKey is the AEAD of one id. An expanded AES-GCM key is 767 bytes and takes
// microseconds to build: it is built at the first packet and released when the
// session falls idle; the direction secret is all that stays.
type idKey struct {
	aead cipher.AEAD
	iv   [nonceLen]byte
}

// deriveID is the key schedule of an id: HKDF-Expand-SHA256(direction secret,
// "roam1 id" || seq || id, 44) = key || iv.
func deriveID(secret *[32]byte, seq uint32, id *wire.ID) ([]byte, error) {
	const label = "roam1 id"
	var info [len(label) + 4 + wire.IDLen]byte
	copy(info[:], label)
	binary.BigEndian.PutUint32(info[len(label):], seq)
	copy(info[len(label)+4:], id[:])
	return hkdf.Expand(sha256.New, secret[:], string(info[:]), keyLen+nonceLen)
}

// errNoSecret: the id belongs to an epoch that is not agreed on.
var errNoSecret = errors.New("session: no secret for this id")

// build makes k ready for use. It fails where there is no secret, and where
// the Go runtime refuses the algorithms, which New finds out at once.
func (k *idKey) build(secret *[32]byte, seq uint32, id *wire.ID) error {
	if secret == nil {
		return errNoSecret
	}
	okm, err := deriveID(secret, seq, id)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(okm[:keyLen])
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	*k = idKey{aead, [nonceLen]byte(okm[keyLen:])}
	clear(okm)
	return nil
}

// nonce writes iv XOR (5 zero bytes || u56 counter) into n. The caller passes
// memory of its Output: a local array would escape through the AEAD interface
// and be allocated for each packet.
func (k *idKey) nonce(n *[nonceLen]byte, counter uint64) []byte {
	// The counter has 56 bits, so its top byte, at n[4], changes nothing.
	binary.BigEndian.PutUint64(n[4:], binary.BigEndian.Uint64(k.iv[4:])^counter)
	copy(n[:4], k.iv[:4])
	return n[:]
}
