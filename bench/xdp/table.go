// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
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

// mix is SplitMix64's finalizer.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// sessionID is an id as two words.
type sessionID [2]uint64

// idOf is the id of the session in a slot: harness_id of harness.bpf.c.
func idOf(slot, mask uint32) sessionID {
	w0 := mix(uint64(slot))&^(3<<28|uint64(mask)) | uint64(slot)
	w1 := mix(^uint64(slot)) & 0xffffffff
	return sessionID{w0, w1 | uint64(tag(w0, w1))<<32}
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
func live(id sessionID) bpf.RoamRoamSlot {
	return bpf.RoamRoamSlot{
		Id:      id,
		Control: uint64(bpf.RoamRoamKindROAM_KIND_ROAM) << 16,
		Addr:    mapped(clientAddr.Addr()),
		Port:    networkOrder(clientAddr.Port()),
	}
}

// fillSlots gives every slot its session.
func fillSlots(m *ebpf.Map) error {
	table, unmap, err := mapArray[bpf.RoamRoamSlot](m)
	if err != nil {
		return err
	}
	for i := range table {
		table[i] = live(idOf(uint32(i), m.MaxEntries()-1))
	}
	return unmap()
}

// fillHash puts the same sessions into a hash map.
func fillHash(m *ebpf.Map) error {
	const batch = 1 << 10
	ids, values := make([]sessionID, batch), make([]bpf.RoamRoamSlot, batch)
	for first := uint32(0); first < m.MaxEntries(); first += batch {
		for i := range ids {
			ids[i] = idOf(first+uint32(i), m.MaxEntries()-1)
			values[i] = live(ids[i])
		}
		if _, err := m.BatchUpdate(ids, values, nil); err != nil {
			return fmt.Errorf("filling the hash map: %w", err)
		}
	}
	return nil
}
