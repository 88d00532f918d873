// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/dchest/siphash"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// sipHash is SipHash-c-d after the paper, byte by byte: slow, and independent
// of the unrolled one in siphash.h.
func sipHash(c, d int, key bpf.RoamRoamSipkey, in []byte) uint64 {
	v := [4]uint64{
		key.K0 ^ 0x736f6d6570736575, key.K1 ^ 0x646f72616e646f6d,
		key.K0 ^ 0x6c7967656e657261, key.K1 ^ 0x7465646279746573,
	}
	rounds := func(n int) {
		for range n {
			v[0] += v[1]
			v[2] += v[3]
			v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
			v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
			v[0] = bits.RotateLeft64(v[0], 32)
			v[2] += v[1]
			v[0] += v[3]
			v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
			v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
			v[2] = bits.RotateLeft64(v[2], 32)
		}
	}
	padded := append(append([]byte{}, in...), make([]byte, 8-len(in)%8)...)
	padded[len(padded)-1] = byte(len(in))
	for ; len(padded) > 0; padded = padded[8:] {
		word := binary.LittleEndian.Uint64(padded)
		v[3] ^= word
		rounds(c)
		v[0] ^= word
	}
	v[2] ^= 0xff
	rounds(d)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

// schedule is a key as the config has it: struct roam_id_key.
func schedule(key bpf.RoamRoamSipkey) bpf.RoamRoamIdKey {
	v0, v1 := key.K0^0x736f6d6570736575, key.K1^0x646f72616e646f6d
	v0 += v1
	return bpf.RoamRoamIdKey{
		V0: bits.RotateLeft64(v0, 32), V1: bits.RotateLeft64(v1, 13) ^ v0,
		V2: key.K0 ^ 0x6c7967656e657261, V3: key.K1 ^ 0x7465646279746573,
	}
}

func sip13(key bpf.RoamRoamSipkey, in []byte) uint64 { return sipHash(1, 3, key, in) }

// The reference is itself checked against a published implementation, where
// there is one.
func TestReferenceSipHash24(t *testing.T) {
	r := newRand(t)
	for n := range 200 {
		key := bpf.RoamRoamSipkey{K0: r.Uint64(), K1: r.Uint64()}
		in := randomBytes(r, n%80)
		if got, want := sipHash(2, 4, key, in), siphash.Hash(key.K0, key.K1, in); got != want {
			t.Fatalf("SipHash-2-4 of %x: %x, want %x", in, got, want)
		}
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// The tag of an id is SipHash-1-3 in the data plane as in Go: right ones are
// ours (the reset lane: no slot is filled), and one wrong bit makes them forged.
func TestTagAgainstGo(t *testing.T) {
	p := newPlane(t)
	r := newRand(t)
	for range 2000 {
		var keys [4]bpf.RoamRoamSipkey
		for i := range keys {
			keys[i] = bpf.RoamRoamSipkey{K0: r.Uint64(), K1: r.Uint64()}
		}
		serverID := uint16(r.Uint32())
		p.configure(func(c *bpf.RoamRoamConfig) {
			c.ServerId = serverID
			for i, key := range keys {
				c.IdKeys[i] = schedule(key)
			}
		})

		var id sessionID
		copy(id[:], randomBytes(r, 12))
		generation := id[3] >> 4 & 3
		binary.LittleEndian.PutUint32(id[12:], uint32(sip13(keys[generation], id[:12]))^uint32(serverID))
		f := frame{src: client4, dst: server4, payload: dataPacket(id)}
		if got := p.run(f.bytes()).reason; got != reasonReset {
			t.Fatalf("id %x with its right tag: %v, want %v", id, got, reasonReset)
		}
		id[r.IntN(16)] ^= 1 << r.IntN(8)
		f.payload = dataPacket(id)
		if got := p.run(f.bytes()).reason; got != reasonForged {
			t.Fatalf("id %x with one wrong bit: %v, want %v", id, got, reasonForged)
		}
	}
}
