// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// testKey is the key of generation 0, alone.
func testKey(generation uint8) [16]byte {
	if generation != 0 {
		return [16]byte{}
	}
	return everyKey(0)
}

// everyKey has all generations in use.
func everyKey(generation uint8) [16]byte {
	return [16]byte{0: generation + 1, 7: 0x5a, 15: 0xa5}
}

func newTable(t testing.TB, slots uint32) *Sessions {
	t.Helper()
	s, err := NewMemorySessions(slots, 0, testKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func allocate(t testing.TB, s *Sessions) (ID, uint32) {
	t.Helper()
	id, n, err := s.Allocate(KindROAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	return id, n
}

func TestCheckSlots(t *testing.T) {
	for _, n := range []uint32{0, 1, 32, 63, 65, 100, 1<<20 - 1, 1<<28 + 1, 1 << 29} {
		if err := CheckSlots(n); !errors.Is(err, ErrSlots) {
			t.Errorf("CheckSlots(%d) = %v, want ErrSlots", n, err)
		}
		if _, err := NewMemorySessions(n, 0, testKey); !errors.Is(err, ErrSlots) {
			t.Errorf("NewMemorySessions(%d) = %v, want ErrSlots", n, err)
		}
	}
	for _, n := range []uint32{64, 1 << 20, 1 << 28} {
		if err := CheckSlots(n); err != nil {
			t.Errorf("CheckSlots(%d) = %v", n, err)
		}
	}
}

func TestZeroKeyIsRefused(t *testing.T) {
	_, err := NewMemorySessions(64, 0, func(uint8) [16]byte { return [16]byte{} })
	if !errors.Is(err, ErrNoKey) {
		t.Errorf("a zero key: got %v, want ErrNoKey", err)
	}
}

// Every bit of an id's layout: slot word, generation, tag with the server's id.
func TestAllocatedIDLayout(t *testing.T) {
	const serverID = 0xbeef
	s, err := NewMemorySessions(1024, serverID, testKey)
	if err != nil {
		t.Fatal(err)
	}
	key := newSipKey(testKey(0))
	var or, and [16]byte
	for i := range and {
		and[i] = 0xff
	}
	for range 512 {
		id, n := allocate(t, s)
		word := binary.LittleEndian.Uint32(id[0:4])
		if got := word & 1023; got != n {
			t.Fatalf("slot word of %x names slot %d, allocated %d", id, got, n)
		}
		if gen := word >> 28 & 3; gen != 0 {
			t.Fatalf("%x carries generation %d, want 0", id, gen)
		}
		if got, want := binary.LittleEndian.Uint32(id[12:16]), key.tag(&id, 0)^serverID; got != want {
			t.Fatalf("tag of %x: %08x, want %08x", id, got, want)
		}
		for i, b := range id {
			or[i] |= b
			and[i] &= b
		}
	}
	// An id must look random: but for the two generation bits every bit
	// takes both values in 512 draws (a miss by chance: below 2^-500).
	or[3] |= 0x30
	if or != slices16(0xff) || and != slices16(0) {
		t.Errorf("constant bits in ids: or %x, and %x", or, and)
	}
}

func slices16(b byte) (a [16]byte) {
	copy(a[:], slices.Repeat([]byte{b}, 16))
	return a
}

func TestFindForgedOursLive(t *testing.T) {
	s := newTable(t, 64)
	id, n := allocate(t, s)
	if got, tag := s.Find(id); tag != TagLive || got != n {
		t.Errorf("a live id: slot %d %v, want %d live", got, tag, n)
	}

	// A change of any bit makes the tag wrong, except with chance 2^-32.
	for bit := range 128 {
		forged := id
		forged[bit/8] ^= 1 << (bit % 8)
		if _, tag := s.Find(forged); tag != TagForged {
			t.Errorf("bit %d changed: %v, want forged", bit, tag)
		}
	}
	if _, tag := s.Find(ID{}); tag != TagForged {
		t.Errorf("the zero id: %v, want forged", tag)
	}

	// An id with a right tag that stands in no slot: as if issued before.
	gone := id
	gone[5] ^= 1
	key := newSipKey(testKey(0))
	binary.LittleEndian.PutUint32(gone[12:16], key.tag(&gone, 0))
	if got, tag := s.Find(gone); tag != TagOurs || got != n {
		t.Errorf("an id of ours with another's slot: slot %d %v, want %d ours", got, tag, n)
	}
	// The same under a generation that has no key.
	gone[3] |= 0x10
	if _, tag := s.Find(gone); tag != TagForged {
		t.Errorf("an id of an unused generation: %v, want forged", tag)
	}
	// Another server of a fleet has the same key and another number.
	other, err := NewMemorySessions(64, 7, testKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, tag := other.Find(id); tag != TagForged {
		t.Errorf("another server's id: %v, want forged", tag)
	}

	if err := s.Retire(id); err != nil {
		t.Fatal(err)
	}
	if _, tag := s.Find(id); tag != TagOurs {
		t.Errorf("a retired id: %v, want ours", tag)
	}
}

func TestFullAt75Percent(t *testing.T) {
	const slots = 256
	s := newTable(t, slots)
	seen := make(map[uint32]bool)
	var last ID
	for range slots * 3 / 4 {
		id, n := allocate(t, s)
		if seen[n] {
			t.Fatalf("slot %d was issued twice", n)
		}
		seen[n] = true
		last = id
	}
	_, _, err := s.Allocate(KindROAM, 0)
	if !errors.Is(err, ErrFull) {
		t.Fatalf("above 75 %%: %v, want ErrFull", err)
	}
	for _, want := range []string{"192 of 256", "table_slots"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if s.Len() != 192 || s.Limit() != 192 || s.Capacity() != 256 {
		t.Errorf("len %d, limit %d, capacity %d, want 192, 192, 256", s.Len(), s.Limit(), s.Capacity())
	}
	if err := s.Retire(last); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Allocate(KindROAM, 0); err != nil {
		t.Errorf("after one was retired: %v", err)
	}
}

func TestCommitOwnerFlags(t *testing.T) {
	s := newTable(t, 64)
	id, n := allocate(t, s)
	got, err := s.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	if want := (SlotInfo{Slot: n, ID: id, Kind: KindROAM, Generation: 1}); got != want {
		t.Errorf("after Allocate: %+v, want %+v", got, want)
	}

	for _, addr := range []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.10:40000"),
		netip.MustParseAddrPort("[2001:db8:7::1]:7626"),
		netip.MustParseAddrPort("[::ffff:198.51.100.7]:1"),
	} {
		if err := s.Commit(id, addr); err != nil {
			t.Fatal(err)
		}
		want := netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		if got, _ := s.Get(id); got.Addr() != want {
			t.Errorf("committed %v, the slot says %v", want, got.Addr())
		}
	}
	if err := s.SetOwner(id, 513); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SetFlags(id, FlagPolice|FlagTrace, true), s.SetFlags(id, FlagTrace, false)); err != nil {
		t.Fatal(err)
	}
	got, _ = s.Get(id)
	if got.Owner != 513 || got.Flags != FlagPolice || got.Kind != KindROAM || got.Generation != 1 {
		t.Errorf("after SetOwner and SetFlags: %+v", got)
	}

	if err := s.Retire(id); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"Commit":   func() error { return s.Commit(id, netip.MustParseAddrPort("192.0.2.1:1")) },
		"SetOwner": func() error { return s.SetOwner(id, 1) },
		"SetFlags": func() error { return s.SetFlags(id, 0, true) },
		"Retire":   func() error { return s.Retire(id) },
		"Get":      func() error { _, err := s.Get(id); return err },
	} {
		if err := f(); !errors.Is(err, ErrNoSession) {
			t.Errorf("%s of a retired id: %v, want ErrNoSession", name, err)
		}
	}
	if w := *(*[8]uint64)(s.slotMemory(n)); w[0]|w[1]|w[3]|w[4]|w[5]|w[6]|w[7] != 0 || w[2] != 1<<32 {
		t.Errorf("a retired slot keeps more than its generation: %x", w)
	}
}

// The bytes that the data plane compares with a packet's are the packet's.
func TestSlotBytesAreWireBytes(t *testing.T) {
	s := newTable(t, 64)
	id, n := allocate(t, s)
	if err := s.Commit(id, netip.MustParseAddrPort("192.0.2.10:40000")); err != nil {
		t.Fatal(err)
	}
	raw := *(*[64]byte)(s.slotMemory(n))
	if [16]byte(raw[0:16]) != id {
		t.Errorf("id in memory %x, want %x", raw[0:16], id)
	}
	if want := netip.MustParseAddr("::ffff:192.0.2.10").As16(); [16]byte(raw[24:40]) != want {
		t.Errorf("address in memory %x, want %x", raw[24:40], want)
	}
	if raw[40] != 40000>>8 || raw[41] != 40000&0xff {
		t.Errorf("port in memory %x, want %x", raw[40:42], 40000)
	}
}

func TestGenerationOfAReusedSlot(t *testing.T) {
	s := newTable(t, 64)
	_, n := allocate(t, s)
	seen := map[uint32]bool{}
	for range 2000 { // 64 slots: the chance to miss slot n is below 2^-45
		var id ID
		s.Scan(func(live []SlotInfo) bool { id = live[0].ID; return false })
		info, err := s.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if info.Slot == n {
			if seen[info.Generation] {
				t.Fatalf("generation %d of slot %d came twice", info.Generation, n)
			}
			seen[info.Generation] = true
		}
		if err := s.Retire(id); err != nil {
			t.Fatal(err)
		}
		allocate(t, s)
	}
	if len(seen) < 2 {
		t.Errorf("slot %d was never reused", n)
	}
}

func TestFreeStale(t *testing.T) {
	s := newTable(t, 256)
	roam := make([]ID, 40)
	for i := range roam {
		roam[i], _ = allocate(t, s)
	}
	quic, _, err := s.Allocate(KindQUIC, 3)
	if err != nil {
		t.Fatal(err)
	}
	// A process killed inside Retire left half an id behind.
	_, half := s.Find(roam[0])
	if half != TagLive {
		t.Fatal("setup")
	}
	n := s.index(&roam[0])
	s.slots[n].Id[0] = 0

	freed, err := s.FreeStale(KindROAM)
	if err != nil || freed != 40 {
		t.Errorf("FreeStale = %d, %v, want 40", freed, err)
	}
	if s.Len() != 1 {
		t.Errorf("Len = %d, want 1: the QUIC id", s.Len())
	}
	if _, tag := s.Find(quic); tag != TagLive {
		t.Errorf("the QUIC id is %v, want live", tag)
	}
	for _, id := range roam[1:] {
		if _, tag := s.Find(id); tag != TagOurs {
			t.Fatalf("a stale id is %v, want ours", tag)
		}
	}
	if !s.slots[n].free() {
		t.Error("half an id stays in its slot")
	}
}

func TestScan(t *testing.T) {
	s := newTable(t, 1024)
	want := map[ID]netip.AddrPort{}
	for i := range 300 {
		id, _ := allocate(t, s)
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), uint16(i+1))
		if err := s.Commit(id, addr); err != nil {
			t.Fatal(err)
		}
		want[id] = addr
	}
	last := -1
	s.Scan(func(live []SlotInfo) bool {
		for _, info := range live {
			if int(info.Slot) <= last {
				t.Fatalf("slot %d after %d", info.Slot, last)
			}
			last = int(info.Slot)
			if want[info.ID] != info.Addr() {
				t.Fatalf("%x: %v, want %v", info.ID, info.Addr(), want[info.ID])
			}
			delete(want, info.ID)
		}
		return true
	})
	if len(want) != 0 {
		t.Errorf("the scan missed %d ids", len(want))
	}
	calls := 0
	s.Scan(func([]SlotInfo) bool { calls++; return false })
	if calls != 1 {
		t.Errorf("a scan that is told to stop went on: %d calls", calls)
	}
}

func BenchmarkAllocateRetire(b *testing.B) {
	s := newTable(b, 1<<16)
	for range s.Limit() - 1 {
		allocate(b, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		id, _, err := s.Allocate(KindROAM, 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Retire(id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	s := newTable(b, 1<<16)
	ids := make([]ID, 1024)
	for i := range ids {
		ids[i], _ = allocate(b, s)
	}
	i := 0
	for b.Loop() {
		if _, tag := s.Find(ids[i&1023]); tag != TagLive {
			b.Fatal(tag)
		}
		i++
	}
}

// Ids carry the generation that is current when they are issued, and stay ours
// for as long as its key is there.
func TestGenerations(t *testing.T) {
	s := newTable(t, 64)
	if err := s.SetGeneration(1); !errors.Is(err, ErrNoKey) {
		t.Fatalf("a generation without a key: %v", err)
	}
	if err := s.Identify(0, everyKey); err != nil {
		t.Fatal(err)
	}
	var ids [Generations]ID
	for g := range uint8(Generations) {
		if err := s.SetGeneration(g); err != nil {
			t.Fatal(err)
		}
		for range g + 1 {
			ids[g], _ = allocate(t, s)
		}
		if got := Generation(ids[g]); got != g {
			t.Errorf("an id of generation %d carries %d", g, got)
		}
	}
	for g := range uint8(Generations) {
		if _, tag := s.Find(ids[g]); tag != TagLive || s.LiveOf(g) != uint32(g)+1 {
			t.Errorf("generation %d: %v, %d live", g, tag, s.LiveOf(g))
		}
	}
	if err := s.Retire(ids[2]); err != nil || s.LiveOf(2) != 2 || s.Len() != 9 {
		t.Errorf("after retiring one: %v, %d of generation 2, %d in all", err, s.LiveOf(2), s.Len())
	}
	if err := s.Identify(0, testKey); err != nil {
		t.Fatal(err)
	}
	for g, want := range [Generations]Tag{TagLive, TagForged, TagForged, TagForged} {
		if _, tag := s.Find(ids[g]); tag != want {
			t.Errorf("with generation 0 alone, an id of generation %d is %v", g, tag)
		}
	}
	if _, _, err := s.Allocate(KindROAM, 0); !errors.Is(err, ErrNoKey) {
		t.Errorf("allocating with a key that was taken away: %v", err)
	}
	if n, err := s.FreeStale(KindROAM); err != nil || n != 9 || s.Len() != 0 {
		t.Errorf("freed %d, %v; %d left", n, err, s.Len())
	}
}
