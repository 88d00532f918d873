// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// IDKey is the key of generation 0, the only one here.
var IDKey = bpf.RoamRoamSipkey{K0: 0x9ae16a3b2f90404f, K1: 0xc949d7c7509e6557}

// Mapped returns an address as the data plane keeps it.
func Mapped(a netip.Addr) [2]uint64 {
	b := a.As16()
	return [2]uint64{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

// NetworkOrder turns a port round.
func NetworkOrder(port uint16) uint16 { return bits.ReverseBytes16(port) }

// schedule is a key as the data plane has it: struct roam_id_key.
func schedule(k bpf.RoamRoamSipkey) bpf.RoamRoamIdKey {
	v0, v1 := k.K0^0x736f6d6570736575, k.K1^0x646f72616e646f6d
	v0 += v1
	return bpf.RoamRoamIdKey{
		V0: bits.RotateLeft64(v0, 32), V1: bits.RotateLeft64(v1, 13) ^ v0, V2: k.K0 ^ 0x6c7967656e657261, V3: k.K1 ^ 0x7465646279746573,
	}
}

// tag is SipHash-1-3 of an id's first twelve bytes.
func tag(w0, w1 uint64) uint32 {
	v0, v1 := IDKey.K0^0x736f6d6570736575, IDKey.K1^0x646f72616e646f6d
	v2, v3 := IDKey.K0^0x6c7967656e657261, IDKey.K1^0x7465646279746573
	round := func() {
		v0 += v1
		v2 += v3
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v1
		v0 += v3
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 = bits.RotateLeft64(v2, 32)
	}
	for _, word := range [2]uint64{w0, 12<<56 | w1&0xffffffff} {
		v3 ^= word
		round()
		v0 ^= word
	}
	v2 ^= 0xff
	round()
	round()
	round()
	return uint32(v0 ^ v1 ^ v2 ^ v3)
}

// mix is SplitMix64's finalizer.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// SessionID is an id as two words.
type SessionID [2]uint64

// IDOf is the id of the session in a slot: harness_id of harness.bpf.c.
func IDOf(slot, mask uint32) SessionID {
	w0 := mix(uint64(slot))&^(3<<28|uint64(mask)) | uint64(slot)
	w1 := mix(^uint64(slot)) & 0xffffffff
	return SessionID{w0, w1 | uint64(tag(w0, w1))<<32}
}

// live is the slot of a session whose path is validated.
func live(id SessionID, from netip.AddrPort) bpf.RoamRoamSlot {
	return bpf.RoamRoamSlot{
		Id:      id,
		Control: uint64(bpf.RoamRoamKindROAM_KIND_ROAM) << 16,
		Addr:    Mapped(from.Addr()),
		Port:    NetworkOrder(from.Port()),
	}
}

// FillSlots gives every slot its session, whose client is at from.
func FillSlots(m *ebpf.Map, from netip.AddrPort) error {
	table, unmap, err := MapArray[bpf.RoamRoamSlot](m)
	if err != nil {
		return err
	}
	for i := range table {
		table[i] = live(IDOf(uint32(i), m.MaxEntries()-1), from)
	}
	return unmap()
}

// FillHash puts the same sessions into a hash map.
func FillHash(m *ebpf.Map) error {
	const batch = 1 << 10
	ids, values := make([]SessionID, batch), make([]bpf.RoamRoamSlot, batch)
	for first := uint32(0); first < m.MaxEntries(); first += batch {
		for i := range ids {
			ids[i] = IDOf(first+uint32(i), m.MaxEntries()-1)
			values[i] = live(ids[i], Somewhere.Source)
		}
		if _, err := m.BatchUpdate(ids, values, nil); err != nil {
			return fmt.Errorf("filling the hash map: %w", err)
		}
	}
	return nil
}
