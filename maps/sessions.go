// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/xdp-roam/xdp-roam/internal/prefetch"
)

// Errors of the session table.
var (
	// ErrFull: the table has reached its limit of 75 %; nothing is evicted.
	ErrFull = errors.New("session table is full")
	// ErrNoSession: the id is in no slot.
	ErrNoSession = errors.New("no session with this id")
	// ErrNoKey: the table has not been told its id key yet.
	ErrNoKey = errors.New("session table has no id key")
	// ErrReadOnly: the maps were opened by a process that does not own them.
	ErrReadOnly = errors.New("maps are open read-only: only the instance's own process writes them")
	// ErrSlots: the table size asked for is not possible.
	ErrSlots = errors.New("bad table_slots")
)

// Sizes of the table, in slots.
const (
	DefaultSlots = 1 << 20
	MinSlots     = 64 // one page
	MaxSlots     = 1 << slotWordBits
)

// CheckSlots returns an error that wraps ErrSlots unless n is a power of two
// from MinSlots to MaxSlots: a lookup masks the id's slot word.
func CheckSlots(n uint32) error {
	if n < MinSlots || n > MaxSlots || bits.OnesCount32(n) != 1 {
		return fmt.Errorf("%w: %d is no power of two from %d to %d (the default is %d)", ErrSlots, n, MinSlots, MaxSlots, DefaultSlots)
	}
	return nil
}

// Sessions is the slot table: the id names its slot, so a lookup is one array
// access and one compare of 128 bits within one cache line. It lives in memory
// that is mapped from the data plane's array, or in plain memory where there
// is no data plane.
//
// Any goroutine may call any method. Find, the one that a packet may cost,
// takes no lock.
//
// Readers (the data plane above all) see each 8-byte word whole but not a slot
// as a whole. That is enough, because every torn view picks a slower lane and
// nothing else: a half-written id matches no packet (at worst a packet of the
// new session meets "gone" before its id was even sent to anyone), and a
// half-written path differs from the packet's source, which makes the packet a
// candidate; the control plane looks at source and id again in every lane.
type Sessions struct {
	slots    []slot
	limit    uint32 // 75 % of the slots
	readOnly bool

	// keys is replaced whole, never changed, so that Find needs no lock.
	keys atomic.Pointer[idKeys]

	mu         sync.Mutex // guards random and generation, and serialises all that write to a slot
	random     draws
	generation uint8 // that new ids carry
	live       [Generations]atomic.Uint32
}

// idKeys is how the table's ids are told from made-up ones.
type idKeys struct {
	serverID uint16
	keys     [Generations]sipKey
}

// draws holds random bytes for the next ids: at a nearly full table an id takes
// several draws, and one read of the kernel's generator serves 64 of them.
type draws struct {
	bytes [64 * 12]byte
	left  int
}

// draw returns an id whose first twelve bytes are random.
func (s *Sessions) draw() (id ID) {
	d := &s.random
	if d.left == 0 {
		rand.Read(d.bytes[:]) // never fails: crypto/rand ends the process instead
		d.left = len(d.bytes)
		// The slots of all 64 are in nobody's cache. Looked at together, their misses
		// overlap: that takes as long as two of them do in turn.
		for i := 0; i < len(d.bytes); i += 12 {
			word := binary.LittleEndian.Uint32(d.bytes[i:])
			s.slots[word&slotWordMask&uint32(len(s.slots)-1)].free()
		}
	}
	copy(id[:12], d.bytes[len(d.bytes)-d.left:])
	d.left -= 12
	return id
}

// NewMemorySessions makes a table in plain memory, for a server without a data
// plane. slots is a power of two (CheckSlots); serverID is 0 unless a fleet
// shares the key; key returns the id key of a generation (from the state
// secret), all zero for one that is not in use.
func NewMemorySessions(slots uint32, serverID uint16, key func(generation uint8) [16]byte) (*Sessions, error) {
	if err := CheckSlots(slots); err != nil {
		return nil, err
	}
	s := &Sessions{}
	s.adopt(make([]slot, slots))
	if err := s.Identify(serverID, key); err != nil {
		return nil, err
	}
	return s, nil
}

// adopt takes over slots as they are and counts the live ones.
func (s *Sessions) adopt(slots []slot) {
	s.slots = slots
	s.limit = uint32(len(slots)) / 4 * 3
	for i := range slots {
		if sl := &slots[i]; !sl.free() {
			s.live[sl.generation()].Add(1)
		}
	}
	s.keys.Store(new(idKeys))
}

// Identify replaces the server's number and id keys: as in NewMemorySessions. A
// generation without a key issued no id. It returns ErrNoKey where there is none
// at all. A table of a Set gets its keys from Set.Identify.
func (s *Sessions) Identify(serverID uint16, key func(generation uint8) [16]byte) error {
	keys, err := newIDKeys(serverID, key)
	if err != nil {
		return err
	}
	s.keys.Store(keys)
	return nil
}

func newIDKeys(serverID uint16, key func(generation uint8) [16]byte) (*idKeys, error) {
	k := &idKeys{serverID: serverID}
	for g := range k.keys {
		k.keys[g] = newSipKey(key(uint8(g)))
	}
	if k.keys == [Generations]sipKey{} {
		return nil, fmt.Errorf("%w: that of every generation is all zero, which stands for none", ErrNoKey)
	}
	return k, nil
}

// SetGeneration makes new ids carry a generation, whose key the table has; it is
// 0 until then. It returns ErrNoKey for one without a key.
func (s *Sessions) SetGeneration(generation uint8) error {
	if int(generation) >= Generations || s.keys.Load().keys[generation].unused() {
		return fmt.Errorf("%w of generation %d", ErrNoKey, generation)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation = generation
	return nil
}

// LiveOf returns the number of live slots whose ids carry a generation.
func (s *Sessions) LiveOf(generation uint8) uint32 { return s.live[generation].Load() }

// Capacity returns the number of slots; three quarters of them can be live.
func (s *Sessions) Capacity() uint32 { return uint32(len(s.slots)) }

// Limit returns how many slots can be live at a time: 75 % of the capacity.
func (s *Sessions) Limit() uint32 { return s.limit }

// Len returns the number of live slots.
func (s *Sessions) Len() (n uint32) {
	for g := range s.live {
		n += s.live[g].Load()
	}
	return n
}

// Allocate draws an id until its slot is free and publishes it there with no
// address, before it returns: the id can be sent as soon as the caller has it.
// owner is the worker whose sockets get the session's packets. It returns an
// error that wraps ErrFull above 75 %: at most four draws on average.
func (s *Sessions) Allocate(kind Kind, owner uint16) (ID, uint32, error) {
	if s.readOnly {
		return ID{}, 0, ErrReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.Len(); n >= s.limit {
		return ID{}, 0, fmt.Errorf("%w: %d of %d slots are in use, the limit is 75 %%; raise table_slots", ErrFull, n, len(s.slots))
	}
	keys, generation := s.keys.Load(), s.generation
	key := keys.keys[generation]
	if key.unused() {
		return ID{}, 0, ErrNoKey
	}
	for {
		id := s.draw()
		word := idWord(&id)&^(generationMask<<generationShift) | uint32(generation)<<generationShift
		binary.LittleEndian.PutUint32(id[0:4], word)
		n := s.index(&id)
		sl := &s.slots[n]
		if !sl.free() {
			continue
		}
		binary.LittleEndian.PutUint32(id[12:16], key.tag(&id, keys.serverID))
		sl.publish(&id, kind, owner)
		s.live[generation].Add(1)
		return id, n, nil
	}
}

// Commit makes addr the validated address of the id: packets from there take
// the main lane from now on. Only a validated path may come here.
func (s *Sessions) Commit(id ID, addr netip.AddrPort) error {
	path := newSlotPath(addr)
	return s.update(&id, func(sl *slot) { sl.setPath(path) })
}

// SetOwner hands the id to another worker.
func (s *Sessions) SetOwner(id ID, owner uint16) error {
	return s.update(&id, func(sl *slot) {
		c := sl.control()
		c.owner = owner
		sl.setControl(c)
	})
}

// SetFlags sets or clears some of the id's flags and leaves the others.
func (s *Sessions) SetFlags(id ID, flags Flags, on bool) error {
	return s.update(&id, func(sl *slot) {
		c := sl.control()
		c.flags &^= flags
		if on {
			c.flags |= flags
		}
		sl.setControl(c)
	})
}

// Retire frees the id's slot. From then on the data plane takes the id for one
// of ours that is gone.
func (s *Sessions) Retire(id ID) error {
	return s.update(&id, func(sl *slot) {
		s.live[sl.generation()].Add(^uint32(0))
		sl.retire()
	})
}

// update runs f on the id's slot under the lock, so that no writer meets a
// slot that was retired and issued again meanwhile.
func (s *Sessions) update(id *ID, f func(*slot)) error {
	if s.readOnly {
		return ErrReadOnly
	}
	sl := &s.slots[s.index(id)]
	if !sl.holds(id) { // here, so that nobody waits for the lock while the line is fetched
		return ErrNoSession
	}
	s.mu.Lock()
	held := sl.holds(id)
	if held {
		f(sl)
	}
	s.mu.Unlock()
	if !held {
		return ErrNoSession
	}
	return nil
}

// Lookup returns the slot that the id names and whether it holds the id: what a
// packet of a live session costs. A slot that holds the very id makes its tag
// right, so none is computed. Find says what an id is that no slot holds.
func (s *Sessions) Lookup(id *ID) (slot uint32, live bool) {
	slot = s.index(id)
	live = s.slots[slot].holds(id) && *id != ID{} // which every free slot holds
	runtime.KeepAlive(s)
	return slot, live
}

// Touch asks the processor for the slot that the id names, for a Lookup soon, and
// returns its number.
func (s *Sessions) Touch(id *ID) uint32 {
	slot := s.index(id)
	prefetch.Object(&s.slots[slot])
	return slot
}

// Find returns the slot that the id names and what the id is. The slot number
// means something only with TagLive and TagOurs.
func (s *Sessions) Find(id ID) (uint32, Tag) {
	keys := s.keys.Load()
	key := &keys.keys[Generation(id)]
	if key.unused() {
		return 0, TagForged
	}
	n := s.index(&id)
	live := s.slots[n].holds(&id)
	runtime.KeepAlive(s)
	if live && id != (ID{}) { // all zero is what a free slot holds
		return n, TagLive // so we issued it, and its tag is right
	}
	if key.tag(&id, keys.serverID) != binary.LittleEndian.Uint32(id[12:16]) {
		return 0, TagForged
	}
	return n, TagOurs
}

// FreeStale retires every id of the kind and returns how many there were. A
// process that starts without its predecessor's sessions calls it before it
// listens: those sessions' keys are gone, so their clients must be told.
func (s *Sessions) FreeStale(kind Kind) (uint32, error) {
	if s.readOnly {
		return 0, ErrReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var freed uint32
	for i := range s.slots {
		if sl := &s.slots[i]; !sl.free() && sl.control().kind == kind {
			s.live[sl.generation()].Add(^uint32(0))
			sl.retire()
			freed++
		}
	}
	return freed, nil
}

// SlotInfo is one live slot as plain values.
type SlotInfo struct {
	Slot       uint32
	ID         ID
	Kind       Kind
	Owner      uint16 // worker
	Flags      Flags
	Generation uint32 // how often the slot has been issued
	Seen       uint32 // QUIC and DTLS: seconds of CLOCK_MONOTONIC
	path       slotPath
}

// Addr returns the validated address; the zero value until one is.
func (i *SlotInfo) Addr() netip.AddrPort { return i.path.addrPort() }

// scanBlock is how many slots Scan reads under one hold of the lock: a page of
// memory, and a bit for each in a word.
const scanBlock = 64

// Scan calls f with the live slots in the order of the table, some at a time, until
// f returns false; the slice is f's until it returns. What is issued or retired
// meanwhile may or may not be seen. f may call any method. In a process that has the
// maps open read-only a path that is being written at this moment can be seen half
// written; nowhere else.
func (s *Sessions) Scan(f func([]SlotInfo) bool) {
	var infos [scanBlock]SlotInfo
	for from := 0; from < len(s.slots); from += scanBlock {
		block := (*[scanBlock]slot)(s.slots[from:]) // both are powers of two, and MinSlots is no less
		live := liveSlots(block)
		if live == 0 {
			continue
		}
		if n := s.readBlock(uint32(from), block, live, &infos); n > 0 && !f(infos[:n]) {
			return
		}
	}
	runtime.KeepAlive(s)
}

// liveSlots returns a bit for each slot that holds an id, whose first word is not
// zero then. It looks at the slots without a branch for each, which in a table half
// full would be guessed wrong every other time.
func liveSlots(block *[scanBlock]slot) (live uint64) {
	for i := range block {
		w := atomic.LoadUint64(&block[i].Id[0])
		live |= (w | -w) >> 63 << i
	}
	return live
}

// readBlock reads the slots that live names, with the writers kept out, into infos
// and returns how many are live still.
func (s *Sessions) readBlock(from uint32, block *[scanBlock]slot, live uint64, infos *[scanBlock]SlotInfo) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; live != 0; live &= live - 1 {
		i := bits.TrailingZeros64(live)
		if block[i].read(from+uint32(i), &infos[n]) {
			n++
		}
	}
	return n
}

// Get returns the id's slot as plain values, or ErrNoSession.
func (s *Sessions) Get(id ID) (SlotInfo, error) {
	info, ok := s.info(s.index(&id))
	if !ok || info.ID != id {
		return SlotInfo{}, ErrNoSession
	}
	return info, nil
}

// info reads a slot with the writers kept out.
func (s *Sessions) info(n uint32) (info SlotInfo, live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live = s.slots[n].read(n, &info)
	return info, live
}

func (s *Sessions) index(id *ID) uint32 { return idWord(id) & slotWordMask & uint32(len(s.slots)-1) }
