// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// The reference vectors: key 00..0f, input 00 01 02 ... of each length, from
// `openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt
// c-rounds:1 -macopt d-rounds:3 -macopt size:8 SIPHASH`.
var sip13Vectors = map[int]string{
	8:  "8e9a298d11959036",
	9:  "e43d066cb38ea425",
	10: "7f09ff92ee85de79",
	11: "52c34df9c118c170",
	12: "a2d9b457b184a378",
	13: "a7ff29120c766f30",
	14: "345df9c011a15a60",
	15: "5699512a6dd820d3",
}

func ascending() (b [16]byte) {
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func TestSipHash13Vectors(t *testing.T) {
	key := newSipKey(ascending())
	for length, want := range sip13Vectors {
		in := ascending()
		clear(in[length:])
		m0 := binary.LittleEndian.Uint64(in[0:8])
		m1 := binary.LittleEndian.Uint64(in[8:16]) | uint64(length)<<56
		var got [8]byte
		binary.LittleEndian.PutUint64(got[:], key.sum13(m0, m1))
		if hex.EncodeToString(got[:]) != want {
			t.Errorf("SipHash-1-3 of %d bytes: got %x, want %s", length, got, want)
		}
	}
}

// The tag of an id whose first twelve bytes are 00..0b is the low word of the
// 12-byte vector, for a fleet's server XORed with the server's number.
func TestTagOfID(t *testing.T) {
	id := ascending()
	key := newSipKey(ascending())
	const low = 0x57b4d9a2 // a2 d9 b4 57, little-endian
	if got := key.tag(&id, 0); got != low {
		t.Errorf("tag for server 0: got %08x, want %08x", got, low)
	}
	if got := key.tag(&id, 0x1234); got != low^0x1234 {
		t.Errorf("tag for server 0x1234: got %08x, want %08x", got, low^0x1234)
	}
}

func TestTagString(t *testing.T) {
	for tag, want := range map[Tag]string{TagForged: "forged", TagOurs: "ours", TagLive: "live", 9: "tag?"} {
		if tag.String() != want {
			t.Errorf("Tag(%d) = %q, want %q", tag, tag, want)
		}
	}
}

func BenchmarkTag(b *testing.B) {
	key, id := newSipKey(ascending()), ascending()
	var sink uint32
	for b.Loop() {
		id[4] = byte(sink)
		sink ^= key.tag(&id, 0)
	}
}
