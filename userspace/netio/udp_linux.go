// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// udpConn is a UDP socket read and written by recvmmsg and sendmmsg.
type udpConn struct {
	udp   *net.UDPConn
	raw   syscall.RawConn
	local netip.AddrPort
	six   bool // an AF_INET6 socket: IPv4 peers are mapped

	readMu  sync.Mutex // guards in
	in      batch
	writeMu sync.Mutex // guards out and gso
	out     batch
	gso     bool // trains go by UDP_SEGMENT

	dropped dropped
}

func newConn(udp *net.UDPConn, six bool) (Conn, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &udpConn{udp: udp, raw: raw, local: localAddr(udp), six: six, gso: knowsSegments(raw)}
	// Made once: a closure for each call would be an allocation for each batch.
	c.in.init(unix.SYS_RECVMMSG)
	c.out.init(unix.SYS_SENDMMSG)
	return c, nil
}

func (c *udpConn) LocalAddr() netip.AddrPort             { return c.local }
func (c *udpConn) SetReadDeadline(t time.Time) error     { return c.udp.SetReadDeadline(t) }
func (c *udpConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }
func (c *udpConn) Dropped() uint64                       { return c.dropped.read(c.raw) }

func (c *udpConn) Close() error {
	c.Dropped() // while the kernel knows
	return c.udp.Close()
}

func (c *udpConn) ReadBatch(ms []Message) (int, error) {
	ms = ms[:min(len(ms), MaxBatch)]
	if len(ms) == 0 {
		return 0, nil
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for i := range ms {
		c.in.armRead(i, ms[i].Buf)
	}
	for {
		c.in.first, c.in.count = 0, len(ms)
		if err := c.raw.Read(c.in.call); err != nil {
			return 0, err
		}
		switch c.in.errno {
		case 0:
			for i := range ms[:c.in.moved] {
				c.in.read(i, &ms[i], c.local.Port())
			}
			return c.in.moved, nil
		case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN,
			unix.ENETDOWN, unix.EPROTO, unix.ENOPROTOOPT, unix.EMSGSIZE, unix.EACCES:
			// What ICMP or an interface said about something sent earlier. The
			// kernel reports each one once, so this cannot spin.
		default:
			return 0, c.in.errno
		}
	}
}

func (c *udpConn) WriteBatch(ms []Message) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	taken := 0
	var refusal syscall.Errno
	alone := 0 // so many of the next messages are not to be joined
	for len(ms) > 0 {
		part := ms[:min(len(ms), MaxBatch)]
		if !c.gso {
			alone = len(part)
		}
		c.out.armWrite(part, alone, c.six)
		alone = 0
		done, retried := 0, false
		for c.out.first < c.out.count && alone == 0 {
			if err := c.raw.Write(c.out.call); err != nil {
				return taken, err
			}
			switch errno := c.out.errno; {
			case errno == 0:
				for ; c.out.moved > 0; c.out.moved-- {
					taken += c.out.packets[c.out.first]
					done += c.out.packets[c.out.first]
					c.out.first++
				}
				retried = false
			case errno == unix.EINTR:
			case errno == unix.ECONNREFUSED && !retried:
				retried = true // an old ICMP error, reported instead of sending
			case c.out.packets[c.out.first] > 1:
				// What the kernel refuses of a train it may take of single packets, the
				// larger of which may be the cause. EIO is a device that sends no trains.
				c.gso = c.gso && errno != unix.EIO
				alone = c.out.packets[c.out.first]
			default:
				if refusal == 0 {
					refusal = errno
				}
				c.out.first++
				done++
				retried = false
			}
		}
		ms = ms[done:]
	}
	if refusal != 0 {
		return taken, refusal
	}
	return taken, nil
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// batch is the memory of one direction's system calls.
type batch struct {
	hdrs     [MaxBatch]mmsghdr
	packets  [MaxBatch]int                   // to write: how many messages each of hdrs joins
	iovs     [MaxBatch]unix.Iovec            // to read one for each of hdrs, to write at most one for each message
	names    [MaxBatch]unix.RawSockaddrInet6 // large enough for both families
	controls [MaxBatch]control

	call         func(fd uintptr) bool // the system call, in the shape that the poller wants
	first, count int                   // in: which of hdrs
	moved        int                   // out
	errno        syscall.Errno         // out
}

func (b *batch) init(trap uintptr) {
	for i := range b.hdrs {
		h := &b.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Control = (*byte)(unsafe.Pointer(&b.controls[i]))
	}
	b.call = func(fd uintptr) bool {
		n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&b.hdrs[b.first])),
			uintptr(b.count-b.first), unix.MSG_DONTWAIT, 0, 0)
		b.moved, b.errno = int(n), errno
		return errno != unix.EAGAIN
	}
}

func (b *batch) armRead(i int, room []byte) {
	b.iovs[i].Base = unsafe.SliceData(room)
	b.iovs[i].SetLen(len(room))
	h := &b.hdrs[i].hdr
	h.Iov = &b.iovs[i]
	h.SetIovlen(1)
	h.Namelen = unix.SizeofSockaddrInet6
	h.SetControllen(len(b.controls[i]) * 8)
}

func (b *batch) read(i int, m *Message, port uint16) {
	h := &b.hdrs[i]
	m.N = int(h.len)
	if h.hdr.Flags&unix.MSG_TRUNC != 0 {
		m.N = 0
	}
	m.Remote = addrPort(&b.names[i])
	local, segment := b.controls[i].decode(int(h.hdr.Controllen))
	m.Local, m.Segment = netip.AddrPortFrom(local, port), segment
}

// armWrite prepares to send ms, at most MaxBatch. The first alone of them are
// not joined with others.
func (b *batch) armWrite(ms []Message, alone int, six bool) {
	b.first, b.count = 0, 0
	vec := 0
	for len(ms) > 0 {
		n := 1
		if alone > 0 {
			alone--
		} else {
			n = train(ms)
		}
		i := b.count
		b.packets[i] = n
		h := &b.hdrs[i].hdr
		h.Iov = &b.iovs[vec]
		used := gather(b.iovs[vec:], ms[:n])
		vec += used
		h.SetIovlen(used)
		h.Namelen = putAddrPort(&b.names[i], ms[0].Remote, six)
		segment := 0
		if n > 1 {
			segment = len(ms[0].Buf)
		}
		h.SetControllen(b.controls[i].encode(ms[0].Local.Addr(), segment, six))
		b.count++
		ms = ms[n:]
	}
}
