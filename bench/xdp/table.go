// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// idKey is the key of generation 0, the only one here.
var idKey = bpf.RoamRoamSipkey{K0: 0x9ae16a3b2f90404f, K1: 0xc949d7c7509e6557}

var (
	clientAddr = netip.MustParseAddrPort("192.0.2.10:40000")
	serverAddr = netip.MustParseAddrPort("198.51.100.7:7626")
)

func mapped(a netip.Addr) [2]uint64 {
	b := a.As16()
	return [2]uint64{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

func networkOrder(port uint16) uint16 { return bits.ReverseBytes16(port) }

// tag is SipHash-1-3 of an id's first twelve bytes.
func tag(w0, w1 uint64) uint32 {
	v0, v1 := idKey.K0^0x736f6d6570736575, idKey.K1^0x646f72616e646f6d
	v2, v3 := idKey.K0^0x6c7967656e657261, idKey.K1^0x7465646279746573
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

// newID draws an id for a slot, with its right tag or a wrong one.
func newID(r *rand.Rand, slot, mask uint32, forged bool) harnessHarnessId {
	w0, w1 := r.Uint64(), r.Uint64()
	w0 = w0&^(3<<28)&^uint64(mask) | uint64(slot)
	t := tag(w0, w1)
	if forged {
		t = ^t
	}
	return harnessHarnessId{Word: [2]uint64{w0, w1&0xffffffff | uint64(t)<<32}}
}

// mapArray is the memory of a mmapable array map, until unmap is called.
func mapArray[T any](m *ebpf.Map) (values []T, unmap func() error, err error) {
	var value T
	size := int(m.MaxEntries()) * int(unsafe.Sizeof(value))
	mem, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping %v: %w", m, err)
	}
	values = unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), m.MaxEntries())
	return values, func() error { return unix.Munmap(mem) }, nil
}

// live is the slot of a session whose path is validated.
func live(id harnessHarnessId) bpf.RoamRoamSlot {
	return bpf.RoamRoamSlot{
		Id:      id.Word,
		Control: uint64(bpf.RoamRoamKindROAM_KIND_ROAM) << 16,
		Addr:    mapped(clientAddr.Addr()),
		Port:    networkOrder(clientAddr.Port()),
	}
}

// fillSlots gives every slot a session and returns the ids in random order.
func fillSlots(r *rand.Rand, m *ebpf.Map) ([]harnessHarnessId, error) {
	table, unmap, err := mapArray[bpf.RoamRoamSlot](m)
	if err != nil {
		return nil, err
	}
	ids := make([]harnessHarnessId, m.MaxEntries())
	mask := m.MaxEntries() - 1
	for i := range ids {
		ids[i] = newID(r, uint32(i), mask, false)
		table[uint32(ids[i].Word[0])&mask] = live(ids[i])
	}
	r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids, unmap()
}

// fillHash puts the same sessions into a hash map, in another order than they
// will be looked up: its elements would lie in memory in just that order.
func fillHash(r *rand.Rand, m *ebpf.Map, ids []harnessHarnessId) error {
	ids = slices.Clone(ids)
	r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	const batch = 1 << 14
	values := make([]bpf.RoamRoamSlot, 0, batch)
	for len(ids) > 0 {
		n := min(batch, len(ids))
		values = values[:0]
		for _, id := range ids[:n] {
			values = append(values, live(id))
		}
		if _, err := m.BatchUpdate(ids[:n], values, nil); err != nil {
			return fmt.Errorf("filling the hash map: %w", err)
		}
		ids = ids[n:]
	}
	return nil
}
