// SPDX-License-Identifier: Apache-2.0

package session

import "github.com/xdp-roam/xdp-roam/userspace/wire"

// Packet is one UDP payload to send.
type Packet struct {
	Path Path
	// Data is at most wire.MaxPacket bytes and aliases the Output's arena: it is
	// valid until Reset.
	Data []byte
}

// Commit tells a server to write a validated path to the slot of an id: from now
// on packets that name ID and come from Path are on the main lane. Clients get
// none.
type Commit struct {
	ID   wire.ID
	Path Path
}

// Output collects what calls on a Session ask for. One Output serves any number
// of calls and of sessions: each appends, in order, and the caller empties it
// with Reset. Its memory is reused, so that in the steady state nothing is
// allocated. The zero value is ready to use. It must not be copied: it holds random
// bytes that are used once.
type Output struct {
	// Datagrams are what the peer sent. They alias the packet given to Receive, Room,
	// or the Output's arena: they are valid until that packet is reused and until
	// Reset, whichever comes first.
	Datagrams [][]byte
	// Room, if the caller gives some, is where Receive opens packets instead of in
	// place, as long as each is one DATAGRAM and nothing else is to be done: then
	// Datagrams lie in Room in order, the first RoomGap bytes from its start and each
	// other one RoomGap bytes behind the one before. Receive cuts off what it used; at
	// the first packet that is not so, whose datagrams lie elsewhere, it cuts off all.
	// What is left of Room may have been written to, by packets that were refused too.
	Room    []byte
	Packets []Packet
	Commits []Commit
	Events  []Event
	// Rearm is set by a Receive after which Deadline may be earlier than before. In
	// the steady state none is: a caller that has a timer armed leaves it as it is.
	Rearm bool

	// arena holds the sealed packets and the datagrams put together from parts.
	// It is never moved while in use: a full one is left to its slices and a new
	// one begun.
	arena []byte
	// frame is scratch: a local one would escape to the heap or be cleared, half a
	// kilobyte for each packet.
	frame  wire.Frame
	nonce  [nonceLen]byte // scratch as well
	random entropy
	// source and home gather the answers to one packet: to where it came from,
	// and to the current path.
	source, home []byte
}

// RoomGap is how many bytes there are before each datagram in an Output's Room. Its
// frame's type has been in the last of them; they are the caller's to use.
const RoomGap = 2

// Reset empties the Output and keeps its memory.
func (o *Output) Reset() {
	o.Datagrams, o.Room = o.Datagrams[:0], nil
	o.Packets = o.Packets[:0]
	o.Commits = o.Commits[:0]
	o.Events = o.Events[:0]
	o.Rearm = false
	o.arena = o.arena[:0]
}

// useRoom cuts a datagram's packet off Room if it was opened there. Where it was too
// large for that, all is cut off: no later datagram must lie before it.
func (o *Output) useRoom(plain []byte) {
	if n := RoomGap - 1 + len(plain); len(o.Room) >= n && &o.Room[RoomGap-1] == &plain[0] {
		o.Room = o.Room[n:]
		return
	}
	o.Room = o.Room[:0]
}

// minArena is room for a few full-sized packets.
const minArena = 8192

// reserve makes sure that n bytes can be appended to the arena without moving
// what is in it.
func (o *Output) reserve(n int) {
	if cap(o.arena)-len(o.arena) < n {
		o.arena = make([]byte, 0, max(2*cap(o.arena), n, minArena))
	}
}

func (o *Output) event(e Event) { o.Events = append(o.Events, e) }
