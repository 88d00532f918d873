// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// sending is an AF_XDP socket's way out: the transmit ring takes frames, the
// completion ring gives them back when they are sent.
type sending struct {
	mu        sync.Mutex // guards what follows
	tx        ring[unix.XDPDesc]
	completed ring[uint64]
	free      []uint64 // frames
	mtu       int
	kick      func(fd uintptr)
	errno     unix.Errno // of kick
}

const (
	// sendFrames is how many frames can be on their way out.
	sendFrames = 1024
	// sendBudget is how many of them a system call sends in copy mode, where the
	// kernel lets one choose (Linux 6.17); else 32.
	sendBudget = MaxBatch
	// kicks bounds how often a batch asks the kernel to go on.
	kicks = 2 * MaxBatch / 32
)

// WriteBatch sends messages through the transmit ring, whole frames past the
// kernel's stack: no route is looked up, no filter asked, nothing is fragmented.
// Each has a Link, its Local address and no zone. It takes them in order and returns
// how many; what it does not take (no room, larger than the MTU or a frame of the
// socket's memory, or the socket is closed) can
// go by another way. It never waits.
func (x *XSK) WriteBatch(ms []Message) (taken int) {
	x.out.mu.Lock()
	defer x.out.mu.Unlock()
	if x.closed.Load() {
		return 0
	}
	s := &x.out
	s.collect()
	room := min(s.tx.room(uint32(min(len(ms), MaxBatch))), uint32(len(s.free)))
	for taken < int(room) && x.put(&ms[taken], s.tx.at(uint32(taken))) {
		taken++
	}
	if taken == 0 {
		return 0
	}
	s.tx.produce(uint32(taken))
	for range kicks {
		if !s.tx.needWakeup() || s.tx.room(sendFrames) == sendFrames {
			break
		}
		if err := x.raw.Control(s.kick); err != nil {
			break // closed meanwhile
		}
		if s.errno == unix.EAGAIN { // a budget spent, or the NIC's ring is full
			runtime.Gosched()
		} else if s.errno != unix.EBUSY && s.errno != unix.EINTR {
			break // sent; or the interface is down, and the frames are lost like any others
		}
	}
	return taken
}

// SetMTU says that the interface's MTU is another one now, in bytes: it bounds what
// WriteBatch takes. Where XSKFrameSize is another one too, packets of the new size fit
// a new socket only.
func (x *XSK) SetMTU(mtu int) {
	x.out.mu.Lock()
	defer x.out.mu.Unlock()
	x.out.mtu = mtu
}

// collect takes back the frames that were sent.
func (s *sending) collect() {
	n := s.completed.available(sendFrames)
	for i := range n {
		s.free = append(s.free, *s.completed.at(i))
	}
	if n > 0 {
		s.completed.consume(n)
	}
}

// put writes a message's frame, or reports that it is none for this way.
func (x *XSK) put(m *Message, d *unix.XDPDesc) bool {
	s := &x.out
	local, remote := m.Local.Addr(), m.Remote.Addr()
	size := ipv6Len + udpLen + len(m.Buf)
	if remote.Is4() {
		size += ipv4Len - ipv6Len
	}
	if m.Link.IsZero() || size > s.mtu || uint64(m.Link.length)+uint64(size) > x.frameSize || !remote.IsValid() || !local.IsValid() || local.Is4() != remote.Is4() ||
		local.IsUnspecified() || remote.Zone() != "" {
		return false
	}
	at := s.free[len(s.free)-1]
	room := x.umem[at : at : at+x.frameSize]
	b := append(appendHeaders(room, &m.Link, m.Local, m.Remote, m.Buf), m.Buf...)
	s.free = s.free[:len(s.free)-1]
	*d = unix.XDPDesc{Addr: at, Len: uint32(len(b))}
	return true
}

// send is the system call that makes the kernel look at the ring.
func (s *sending) send(fd uintptr) {
	_, _, s.errno = unix.Syscall6(unix.SYS_SENDTO, fd, 0, 0, unix.MSG_DONTWAIT, 0, 0)
}
