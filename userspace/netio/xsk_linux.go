// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// XSK is an AF_XDP socket on one receive queue of one interface: the frames that
// an XDP program redirects to it are written into memory that is shared with the
// kernel, and read from there without a system call. See
// https://docs.kernel.org/networking/af_xdp.html for the four rings.
//
// Frames wait in the fill ring for the kernel, which puts a packet into each and
// hands it over through the receive ring; the reader gives a batch of them back
// when it asks for the next one.
type XSK struct {
	info XSKInfo
	port uint16
	file *os.File // keeps the descriptor in Go's network poller
	raw  syscall.RawConn

	closed atomic.Bool
	last   atomic.Pointer[Drops] // the kernel's part when it was closed

	mu        sync.Mutex // guards what follows: one reader at a time
	rings     [][]byte   // as mapped
	umem      []byte
	frameSize uint64 // a power of two
	fill      ring[uint64]
	rx        ring[unix.XDPDesc]
	held      [MaxBatch]uint64 // frames that the last batch's messages point into
	numHeld   uint32
	came      uint32                // frames since the reader slept or napped,
	since     time.Time             // which it did until then
	touched   byte                  // what touch read, so that it is not compiled away
	ready     func(fd uintptr) bool // made once: a closure for each wait would be an allocation

	out sending

	malformed atomic.Uint64
	sleeps    atomic.Uint64 // how often the reader went to sleep
}

// busyPolls is how often a reader that had work looks again before it sleeps. It
// yields to other goroutines each time: about 5 microseconds in all, less than
// falling asleep and waking up costs.
const busyPolls = 32

// A reader for which so much has come, so fast, since it slept naps when there is no more,
// instead of falling asleep: more is on its way, and while it naps that wakes nobody.
// Waking costs both CPUs some microseconds each time. With the kernel's timer slack a
// nap takes about 55 us, like the interrupt moderation of network cards. Large packets
// come more slowly, since to open one takes longer: a wake-up for each batch is little
// to them, and a nap costs more.
const (
	napWorth = MaxBatch
	napPace  = 400 * time.Nanosecond // for each, at most
	// napPolls is how often it looks again before; others get their turn by that.
	napPolls = 4
)

// napTime is what the kernel is asked for.
var napTime = unix.Timespec{Nsec: 1000}

// Info says what the socket came to be.
func (x *XSK) Info() XSKInfo { return x.info }

// SyscallConn gives access to the descriptor, to register the socket in a map.
func (x *XSK) SyscallConn() (syscall.RawConn, error) { return x.raw, nil }

// SetReadDeadline makes a reader that waits fail from t on; the zero time: never.
func (x *XSK) SetReadDeadline(t time.Time) error { return x.file.SetReadDeadline(t) }

// Close takes the socket off its queue and wakes the reader with net.ErrClosed.
// Messages that were read stay valid while the XSK is referenced; then the
// collector frees their memory.
func (x *XSK) Close() error {
	if x.closed.Swap(true) {
		return nil
	}
	drops := x.kernelDrops()
	x.last.Store(&drops)
	err := x.file.Close() // the reader leaves
	x.mu.Lock()
	defer x.mu.Unlock()
	x.out.mu.Lock()
	defer x.out.mu.Unlock()
	for _, ring := range x.rings { // each holds the socket as a descriptor does
		err = errors.Join(err, unix.Munmap(ring))
	}
	x.rings, x.fill, x.rx = nil, ring[uint64]{}, ring[unix.XDPDesc]{}
	x.out.tx, x.out.completed = ring[unix.XDPDesc]{}, ring[uint64]{}
	if err != nil {
		return fmt.Errorf("close AF_XDP socket: %w", err)
	}
	return nil
}

// Drops returns the counts since the socket was opened.
func (x *XSK) Drops() Drops {
	d := x.kernelDrops()
	d.Malformed = x.malformed.Load()
	return d
}

func (x *XSK) kernelDrops() (d Drops) {
	if last := x.last.Load(); last != nil {
		return *last
	}
	err := x.raw.Control(func(fd uintptr) {
		var st unix.XDPStatistics
		if getsockopt(int(fd), unix.XDP_STATISTICS, &st) == nil {
			d = Drops{NoFrame: st.Rx_dropped, RingFull: st.Rx_ring_full, FillEmpty: st.Rx_fill_ring_empty_descs}
		}
	})
	if last := x.last.Load(); err != nil && last != nil { // closed meanwhile
		return *last
	}
	return d
}

// ReadBatch waits for at least one datagram and fills as many messages as are
// there. Their Buf points into the socket's memory, where a packet can be opened
// in place: it is valid until the next ReadBatch, which gives the frames back to
// the kernel. Errors are those of Conn.ReadBatch. The kernel tells no reader that
// the interface has gone: who watches links closes the socket.
func (x *XSK) ReadBatch(ms []Message) (int, error) {
	ms = ms[:min(len(ms), MaxBatch)]
	if len(ms) == 0 {
		return 0, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		if x.closed.Load() {
			return 0, net.ErrClosed
		}
		if err := x.giveBack(); err != nil {
			return 0, err
		}
		n := x.rx.available(uint32(len(ms)))
		if n == 0 {
			if err := x.wait(); err != nil {
				return 0, err
			}
			continue
		}
		x.came += n
		if got := x.take(ms, n); got > 0 {
			return got, nil
		}
	}
}

// giveBack returns the frames of the last batch to the fill ring, which has room
// for all that there are.
func (x *XSK) giveBack() error {
	if x.numHeld == 0 {
		return nil
	}
	n := x.fill.room(x.numHeld)
	for i := range n {
		*x.fill.at(i) = x.held[i]
	}
	x.fill.produce(n)
	x.numHeld = 0
	if x.fill.needWakeup() { // a zero-copy driver that ran out of frames
		return x.wake()
	}
	return nil
}

// take turns n frames into messages and returns how many hold a datagram.
func (x *XSK) take(ms []Message, n uint32) (got int) {
	x.touch(n)
	var f frame
	for i := range n {
		d := x.rx.at(i)
		x.held[i] = d.Addr &^ (x.frameSize - 1)
		// Sources with a zone are the stack's: it alone knows which interface
		// they came by, where that is part of a bridge or carries VLANs.
		b := x.umem[d.Addr : d.Addr+uint64(d.Len)]
		if !f.parse(b) || f.local.Port() != x.port || f.remote.Addr().IsLinkLocalUnicast() && f.remote.Addr().Is6() {
			x.malformed.Add(1)
			continue
		}
		ms[got] = Message{Buf: f.payload, N: len(f.payload), Remote: f.remote, Local: f.local, Link: AnswerLink(b, f.network)}
		got++
	}
	x.numHeld = n
	x.rx.consume(n)
	return got
}

// touch reads the first two cache lines of n frames, where the headers and ids of
// packets are. Another CPU has written them a moment ago: this way the misses of a
// batch overlap, where parsing would wait for them one by one.
func (x *XSK) touch(n uint32) {
	const line = 64
	var sum byte
	for i := range n {
		at := x.rx.at(i).Addr
		sum += x.umem[at] + x.umem[at^line]
	}
	x.touched = sum
}

// wait returns when there may be something to read: it looks for a while, then naps or
// sleeps.
func (x *XSK) wait() error {
	polls, naps := busyPolls, x.came >= napWorth && time.Since(x.since) < time.Duration(x.came)*napPace
	if naps {
		polls = napPolls
	}
	for range polls {
		runtime.Gosched()
		if x.rx.available(1) > 0 {
			return nil
		}
	}
	x.came = 0
	if x.fill.needWakeup() { // since giveBack looked: nothing would come, to wake us
		if err := x.wake(); err != nil {
			return err
		}
	}
	if naps {
		// Go is not told: after 20 us its scheduler would have another thread take over,
		// for longer than this takes.
		_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&napTime)), 0, 0)
		x.since = time.Now()
		return nil
	}
	err := x.raw.Read(x.ready)
	x.since = time.Now()
	if x.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// isReady is what the poller asks before it lets the reader sleep, and again
// whenever it wakes it.
func (x *XSK) isReady(uintptr) bool {
	if x.rx.available(1) > 0 {
		return true
	}
	x.sleeps.Add(1)
	return false
}

// Nudge wakes a driver that waits for frames, which a reader that sleeps may owe it.
//
// A zero-copy driver finds the fill ring empty first and says that it has to be woken
// second. If the reader fills the ring, looks whether it has said so, and falls asleep
// between the two, no packet comes any more to wake either; no barrier on our side
// orders what the driver does. (Sleeping in poll(2) would ask the driver, but Go's
// poller asks only when an event has come.) So someone else has to look now and then.
// It costs a load from memory unless the driver waits.
func (x *XSK) Nudge() {
	x.out.mu.Lock() // not mu, which a sleeping reader holds: Close takes both before it unmaps
	defer x.out.mu.Unlock()
	if !x.closed.Load() && x.fill.needWakeup() {
		_ = x.wake() // an error is the next reader's
	}
}

// wake tells the kernel that the fill ring has frames again.
func (x *XSK) wake() (err error) {
	cerr := x.raw.Control(func(fd uintptr) {
		_, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, 0, 0, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0, unix.EAGAIN, unix.EBUSY, unix.ENOBUFS, unix.EINTR, unix.ENETDOWN:
		default:
			err = fmt.Errorf("waking the driver: %w", errno)
		}
	})
	if x.closed.Load() {
		return net.ErrClosed
	}
	if cerr != nil {
		return cerr
	}
	return err
}
