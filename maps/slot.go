// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"unsafe"
)

// The data plane compares ids and addresses as the 8-byte words that lie in
// memory, so the words of an id are in the host's byte order.
func words(b *[16]byte) (w0, w1 uint64) {
	return binary.NativeEndian.Uint64(b[0:8]), binary.NativeEndian.Uint64(b[8:16])
}

func fromWords(w0, w1 uint64) (b [16]byte) {
	binary.NativeEndian.PutUint64(b[0:8], w0)
	binary.NativeEndian.PutUint64(b[8:16], w1)
	return b
}

// addrWords returns an address as the data plane keeps it: IPv4-mapped, in
// network order. A zone is dropped: no packet carries one.
func addrWords(a netip.Addr) (w0, w1 uint64) {
	b := a.As16()
	return words(&b)
}

func fromAddrWords(w0, w1 uint64) netip.Addr {
	return netip.AddrFrom16(fromWords(w0, w1)).Unmap()
}

// networkOrder turns a port to or from the two bytes that packets carry.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// controlWord is the control word of a slot taken apart.
type controlWord struct {
	owner      uint16
	kind       Kind
	flags      Flags
	generation uint32
}

// Who writes a slot holds the table's lock, and so does whoever reads more of it
// than its id. So only the stores of an id need to be atomic (a fence each): what
// is written before one of them is seen before it, and the data plane sees every
// word whole, since an aligned word is never torn. The loads are atomic for a
// process that has the table open read-only.
func (sl *slot) control() controlWord {
	w := atomic.LoadUint64(&sl.Control)
	return controlWord{owner: uint16(w), kind: Kind(w >> 16), flags: Flags(w >> 24), generation: uint32(w >> 32)}
}

func (sl *slot) setControl(c controlWord) {
	sl.Control = uint64(c.owner) | uint64(c.kind)<<16 | uint64(c.flags)<<24 | uint64(c.generation)<<32
}

// free reports whether the slot holds no id. A retirement that a crash cut
// short left one word of the id behind: that is not free, so FreeStale finds it.
func (sl *slot) free() bool {
	return atomic.LoadUint64(&sl.Id[0]) == 0 && atomic.LoadUint64(&sl.Id[1]) == 0
}

// generation is that of the id that the slot holds. A retirement that a crash cut
// short left the second word of it alone: that counts as generation 0, here and
// when FreeStale frees it.
func (sl *slot) generation() uint8 {
	return Generation(fromWords(atomic.LoadUint64(&sl.Id[0]), 0))
}

func (sl *slot) holds(id *ID) bool {
	w0, w1 := words(id)
	return atomic.LoadUint64(&sl.Id[0]) == w0 && atomic.LoadUint64(&sl.Id[1]) == w1
}

// publish fills a free slot. The id's words go last, so that a reader that
// matches the id meets the new owner and no path of the slot's last session.
func (sl *slot) publish(id *ID, kind Kind, owner uint16) {
	sl.clearPath()
	sl.clearBuckets()
	sl.setControl(controlWord{owner: owner, kind: kind, generation: sl.control().generation + 1})
	w0, w1 := words(id)
	atomic.StoreUint64(&sl.Id[1], w1)
	atomic.StoreUint64(&sl.Id[0], w0)
}

// retire frees the slot. The id goes first: from its first word on no packet
// matches. The kind goes last, so that FreeStale knows what a crash left half
// done. The generation stays, to tell the slot's sessions apart.
func (sl *slot) retire() {
	atomic.StoreUint64(&sl.Id[0], 0)
	sl.clearPath()
	sl.clearBuckets()
	atomic.StoreUint64(&sl.Id[1], 0)
	sl.setControl(controlWord{generation: sl.control().generation})
}

// slotPath is a validated address as a slot holds it.
type slotPath struct {
	addr [2]uint64
	port uint16 // in network order
}

func newSlotPath(a netip.AddrPort) (p slotPath) {
	p.addr[0], p.addr[1] = addrWords(a.Addr())
	p.port = networkOrder(a.Port())
	return p
}

// addrPort returns the address; the zero value for none.
func (p *slotPath) addrPort() netip.AddrPort {
	if p.addr == [2]uint64{} {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(fromAddrWords(p.addr[0], p.addr[1]), networkOrder(p.port))
}

// setPath writes the validated address. Any mixture of the old and the new
// words that a packet meets is some third address: unequal to its source, or
// that of a packet which the control plane then judges as it judges all.
func (sl *slot) setPath(p slotPath) {
	sl.Addr = p.addr
	sl.setPort(p.port)
}

func (sl *slot) clearBuckets() {
	clear(sl.Bucket[:])
}

func (sl *slot) clearPath() {
	sl.Addr[0], sl.Addr[1] = 0, 0
	sl.setPort(0)
}

// setPort stores port and the spare beside it, four bytes and not the word of
// eight: seen, the other half, is the data plane's to write.
func (sl *slot) setPort(networkPort uint16) {
	var b [4]byte
	binary.NativeEndian.PutUint16(b[:], networkPort)
	*sl.portWord() = binary.NativeEndian.Uint32(b[:])
}

// networkPort is the port in the order in which it is stored.
func (sl *slot) networkPort() uint16 {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], atomic.LoadUint32(sl.portWord()))
	return binary.NativeEndian.Uint16(b[:])
}

func (sl *slot) portWord() *uint32 { return (*uint32)(unsafe.Pointer(&sl.Port)) }

// read reads a live slot into info. It reports false where the slot is free or where
// another process retired it or issued it again meanwhile: the id's first word
// is the last that publish writes and the first that retire clears.
func (sl *slot) read(n uint32, info *SlotInfo) bool {
	w0, w1 := atomic.LoadUint64(&sl.Id[0]), atomic.LoadUint64(&sl.Id[1])
	c := sl.control()
	info.Slot = n
	binary.NativeEndian.PutUint64(info.ID[0:8], w0) // in place: read back as one value, two stores make the processor wait
	binary.NativeEndian.PutUint64(info.ID[8:16], w1)
	info.Kind, info.Owner, info.Flags, info.Generation = c.kind, c.owner, c.flags, c.generation
	info.path.addr[0], info.path.addr[1] = atomic.LoadUint64(&sl.Addr[0]), atomic.LoadUint64(&sl.Addr[1])
	info.path.port = sl.networkPort()
	info.Seen = atomic.LoadUint32(&sl.Seen)
	unchanged := atomic.LoadUint64(&sl.Id[0]) == w0 && atomic.LoadUint64(&sl.Id[1]) == w1 && sl.control().generation == c.generation
	return unchanged && w0 != 0
}
