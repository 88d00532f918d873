// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"

	"github.com/dchest/siphash"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// MAC1Key is the SipHash key of mac1, the first and cheapest check of an INIT.
// It follows from the server's public key, so mac1 shows no more than that the
// sender knows which server it speaks to: a scanner does not. XDP holds the same
// key.
type MAC1Key [16]byte

// NewMAC1Key returns the key for the server with this public key.
func NewMAC1Key(server PublicKey) MAC1Key {
	h := sha256.New()
	h.Write([]byte("roam1 mac1"))
	h.Write(server[:])
	return MAC1Key(h.Sum(nil)[:16])
}

// Sum returns the mac1 of an INIT. It panics on a packet that wire.ParseInit
// does not take.
func (k MAC1Key) Sum(initPkt []byte) [wire.MAC1Len]byte {
	in := wire.Init(initPkt).MAC1Input()
	return sipHash(k, in[:])
}

// Verify reports, in constant time, whether the mac1 of an INIT is right. It
// panics on a packet that wire.ParseInit does not take.
func (k MAC1Key) Verify(initPkt []byte) bool {
	want, got := k.Sum(initPkt), wire.Init(initPkt).MAC1()
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// sipHash is SipHash-2-4 with its result in the byte order of the paper.
func sipHash(key [16]byte, in []byte) (out [8]byte) {
	sum := siphash.Hash(binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:]), in)
	binary.LittleEndian.PutUint64(out[:], sum)
	return out
}
