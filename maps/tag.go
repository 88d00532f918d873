// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"encoding/binary"
	"math/bits"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// ID is a session id as it stands on the wire: opaque to clients, while to the
// server that issued it the first word names a slot of its table and the last
// word (the tag) proves that it was issued at all.
//
//	0..3    u32 little-endian: slot word (bits 0-27), generation of the id key
//	        (28-29), random (30-31)
//	4..11   random
//	12..15  u32 little-endian: server id XOR the low 32 bits of
//	        SipHash-1-3(id key of the generation, bytes 0..11)
type ID = [16]byte

const (
	slotWordBits    = 28
	slotWordMask    = 1<<slotWordBits - 1
	generationShift = slotWordBits
	generationMask  = uint32(Generations - 1)
)

// Generations is how many id keys can be in use at a time: an id has two bits for
// the number of its own.
const Generations = len(config{}.IdKeys)

// Tag is what an id's tag and slot say about the id.
type Tag uint8

// The verdicts of Sessions.Find.
const (
	// TagForged: no server with our key issued this id.
	TagForged Tag = iota
	// TagOurs: issued by this server, but its session is gone.
	TagOurs
	// TagLive: issued by this server and in its slot now.
	TagLive
)

// String returns "forged", "ours" or "live".
func (t Tag) String() string {
	switch t {
	case TagForged:
		return "forged"
	case TagOurs:
		return "ours"
	case TagLive:
		return "live"
	}
	return "tag?"
}

// idWord is an id's first word: slot word, generation and two random bits.
func idWord(id *ID) uint32 { return binary.LittleEndian.Uint32(id[0:4]) }

// Generation returns the number of the key that an id of ours was made with.
func Generation(id ID) uint8 { return uint8(idWord(&id) >> generationShift & generationMask) }

// sipKey is a SipHash key as two little-endian words.
type sipKey struct{ k0, k1 uint64 }

func newSipKey(key [16]byte) sipKey {
	return sipKey{binary.LittleEndian.Uint64(key[0:8]), binary.LittleEndian.Uint64(key[8:16])}
}

// schedule is the key as the data plane goes on from it: roam_id_key.
func (k sipKey) schedule() bpf.RoamRoamIdKey {
	if k.unused() {
		return bpf.RoamRoamIdKey{}
	}
	v0, v1, v2, v3 := k.state()
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	return bpf.RoamRoamIdKey{V0: bits.RotateLeft64(v0, 32), V1: v1, V2: v2, V3: v3}
}

// state is SipHash's before any input.
func (k sipKey) state() (v0, v1, v2, v3 uint64) {
	return k.k0 ^ 0x736f6d6570736575, k.k1 ^ 0x646f72616e646f6d, k.k0 ^ 0x6c7967656e657261, k.k1 ^ 0x7465646279746573
}

// unused reports the all-zero key, which stands for "no key" in the config map.
func (k sipKey) unused() bool { return k == sipKey{} }

// tag is the id's last word for a server: what must stand in bytes 12..15.
func (k sipKey) tag(id *ID, serverID uint16) uint32 {
	const length = 12
	m0 := binary.LittleEndian.Uint64(id[0:8])
	m1 := uint64(binary.LittleEndian.Uint32(id[8:12])) | length<<56
	return uint32(k.sum13(m0, m1)) ^ uint32(serverID)
}

// sum13 is SipHash-1-3 (Aumasson and Bernstein 2012, one compression and three
// finalization rounds) of 8 to 15 bytes: m0 holds the first eight, m1 the rest
// with the length in its top byte. The id's tag is all that we need of it, so
// there is no loop over longer input.
func (k sipKey) sum13(m0, m1 uint64) uint64 {
	v0, v1, v2, v3 := k.state()

	v3 ^= m0
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= m0

	v3 ^= m1
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= m1

	v2 ^= 0xff
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	return v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}
