// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fakeKernel is the other side of an AF_XDP socket's receiving rings, in plain memory.
type fakeKernel struct {
	x     *XSK
	fill  ring[uint64] // seen from its consumer
	rx    ring[unix.XDPDesc]
	order []uint64        // frames that were brought and not read yet
	away  map[uint64]bool // and those that the reader's messages are in, too
}

func newFakeKernel(frames uint32, start uint32) *fakeKernel {
	x := &XSK{port: 7626, frameSize: 2048, umem: make([]byte, frames*2048)}
	x.fill, _, _ = twoSides(frames, start)
	at := unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 192}
	words := make([]uint64, ringBytes[unix.XDPDesc](at, frames)/8)
	x.rx = newRing[unix.XDPDesc](unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8), at, frames)
	*x.rx.producer, *x.rx.consumer, x.rx.ours, x.rx.theirs = start, start, start, start
	for i := range frames {
		*x.fill.at(i) = uint64(i) * x.frameSize
	}
	k := &fakeKernel{x: x, fill: x.fill, rx: x.rx, away: map[uint64]bool{}}
	x.fill.produce(frames)
	return k
}

// bring puts a packet into a free frame, behind some head room, and reports whether
// there was one.
func (k *fakeKernel) bring(t *testing.T, packet []byte, options uint32) bool {
	t.Helper()
	if k.fill.available(1) == 0 {
		return false
	}
	frame := *k.fill.at(0)
	k.fill.consume(1)
	switch {
	case frame%k.x.frameSize != 0 || frame >= uint64(len(k.x.umem)):
		t.Fatalf("what came back is no frame: %#x", frame)
	case k.away[frame]:
		t.Fatalf("frame %#x came back twice, or while a message was in it", frame)
	}
	k.away[frame] = true
	k.order = append(k.order, frame)
	at := frame + 256 - uint64(rand.IntN(32))
	copy(k.x.umem[at:], packet)
	if k.rx.room(1) == 0 {
		t.Fatal("more frames than there are")
	}
	*k.rx.at(0) = unix.XDPDesc{Addr: at, Len: uint32(len(packet)), Options: options}
	k.rx.produce(1)
	return true
}

// Whatever the frames hold, and however few messages are read at a time, each comes
// back to the kernel once, and not before its message is done with. A packet in several
// frames, which no socket of ours is bound for, is none that is delivered.
func TestXSKGivesFramesBack(t *testing.T) {
	numbered := func(n uint32) []byte {
		b := unhex(t, macs+ip4+udp)
		binary.BigEndian.PutUint32(b[len(b)-5:], n)
		return b
	}
	whole := numbered(0)
	large := unhex(t, macs+"0800 4500 05c8 0000 4000 40 11 0000 c0000209 c0000201 0fa0 1dca 05b4 0000")
	other := append([]byte(nil), whole...)
	other[len(other)-10]++ // the port
	bad := []struct {
		packet  []byte
		options uint32
	}{
		{nil, 0}, {whole[:13], 0}, {whole[:len(whole)-1], 0}, {other, 0},
		{large, unix.XDP_PKT_CONTD}, {make([]byte, 1400), 0}, // its two frames
	}
	const frames = 32
	for _, start := range []uint32{0, math.MaxUint32 - 20} {
		k := newFakeKernel(frames, start)
		brought, refused, next := uint32(0), uint64(0), uint32(0)
		for range 2000 {
			for range rand.IntN(40) { // more than there are frames, at times
				if rand.IntN(3) == 0 {
					b := bad[rand.IntN(len(bad))]
					if k.bring(t, b.packet, b.options) {
						refused++
					}
				} else if k.bring(t, numbered(brought), 0) {
					brought++
				}
			}
			for next < brought { // else it would sleep
				ms := make([]Message, 1+rand.IntN(9))
				for _, frame := range k.x.held[:k.x.numHeld] {
					delete(k.away, frame)
				}
				n, err := k.x.ReadBatch(ms)
				if err != nil {
					t.Fatal(err)
				}
				for i := range ms[:n] {
					got := binary.BigEndian.Uint32(ms[i].Data())
					if ms[i].N != 5 || got != next || ms[i].Remote.Port() != 4000 {
						t.Fatalf("message %d: %+v", next, ms[i])
					}
					next++
				}
				// Batches without a message are back already; the last is the reader's.
				read := len(k.order) - int(*k.x.rx.producer-*k.x.rx.consumer)
				for _, frame := range k.order[:read-int(k.x.numHeld)] {
					delete(k.away, frame)
				}
				k.order = k.order[read:]
			}
		}
		if brought < 1000 || refused < 1000 {
			t.Errorf("only %d and %d packets", brought, refused)
		}
		if got := k.x.malformed.Load(); got > refused || got < refused-uint64(len(k.order)) {
			t.Errorf("%d of %d counted as malformed", got, refused)
		}
		if err := k.x.giveBack(); err != nil {
			t.Fatal(err)
		}
		if n := int(k.fill.available(frames)) + len(k.order); n != frames {
			t.Errorf("%d of %d frames are left", n, frames)
		}
	}
}
