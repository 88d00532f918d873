// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package intake measures how packets come into a Go worker: rows 7 and 8 of the
// goals in docs/BENCHMARKS.md. Live frames with 64-byte UDP payloads come in on one
// CPU, as if a network card had brought them, and a worker on another takes them out
// of the kernel, by AF_XDP behind roam_xdp, by a plain net.UDPConn, or by recvmmsg,
// and looks up the session of each.
package intake

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// batchSize is that of the server's workers.
const batchSize = 64

// socketBuffer is what sockets are given, as the server's are.
const socketBuffer = 8 << 20

// worker looks up sessions.
type worker struct {
	table   *maps.Sessions
	packets atomic.Uint64 // written once for each batch
	unknown atomic.Uint64
}

func (w *worker) look(payload []byte) {
	_, id, err := wire.ParseData(payload)
	if err == nil {
		if _, tag := w.table.Find(id); tag == maps.TagLive {
			return
		}
	}
	w.unknown.Add(1)
}

// reader takes packets out of the kernel.
type reader interface {
	// read takes what is there, or waits, and shows it to w. It fails with
	// net.ErrClosed after close.
	read(w *worker) error
	close() error
}

// plain is what a Go program does that knows nothing better.
type plain struct {
	conn *net.UDPConn
	buf  []byte
}

func openPlain(addr netip.AddrPort) (*plain, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
	})
	if err := errors.Join(err, optErr); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &plain{conn, make([]byte, wire.MaxPacket)}, nil
}

func (p *plain) read(w *worker) error {
	n, _, err := p.conn.ReadFromUDPAddrPort(p.buf)
	if err != nil {
		return err
	}
	w.look(p.buf[:n])
	w.packets.Store(w.packets.Load() + 1)
	return nil
}

func (p *plain) close() error { return p.conn.Close() }

// mmsg is recvmmsg by raw system calls, as lean as it can be.
type mmsg struct {
	fd     int
	closed atomic.Bool
	hdrs   [batchSize]mmsghdr
	iovs   [batchSize]unix.Iovec
	names  [batchSize]unix.RawSockaddrInet4
	bufs   [batchSize][]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// wakeEvery is how often a reader that gets nothing sees whether it is closed.
const wakeEvery = 50_000 // us

func openMMsg(addr netip.AddrPort) (*mmsg, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	m := &mmsg{fd: fd}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: wakeEvery}),
		unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}))
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	for i := range m.hdrs {
		m.bufs[i] = make([]byte, wire.MaxPacket)
		m.iovs[i].Base = &m.bufs[i][0]
		m.iovs[i].SetLen(wire.MaxPacket)
		h := &m.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&m.names[i]))
		h.Iov = &m.iovs[i]
		h.SetIovlen(1)
	}
	return m, nil
}

func (m *mmsg) read(w *worker) error {
	for i := range m.hdrs {
		m.hdrs[i].hdr.Namelen = unix.SizeofSockaddrInet4
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(m.fd), uintptr(unsafe.Pointer(&m.hdrs[0])), batchSize, unix.MSG_WAITFORONE, 0, 0)
	switch {
	case m.closed.Load():
		return errors.Join(net.ErrClosed, unix.Close(m.fd))
	case errno == unix.EAGAIN, errno == unix.EINTR:
		return nil
	case errno != 0:
		return fmt.Errorf("recvmmsg: %w", errno)
	}
	for i := range int(n) {
		w.look(m.bufs[i][:m.hdrs[i].len])
	}
	w.packets.Store(w.packets.Load() + uint64(n))
	return nil
}

// close has the reader close the socket, in which it waits.
func (m *mmsg) close() error {
	m.closed.Store(true)
	return nil
}

// batched is one of netio's sockets, for AF_XDP: the product's own way.
type batched struct {
	conn interface {
		ReadBatch([]netio.Message) (int, error)
		SyscallConn() (syscall.RawConn, error)
		Close() error
	}
	in [batchSize]netio.Message
}

func (b *batched) read(w *worker) error {
	n, err := b.conn.ReadBatch(b.in[:])
	if err != nil {
		return err
	}
	for i := range b.in[:n] {
		w.look(b.in[i].Data())
	}
	w.packets.Store(w.packets.Load() + uint64(n))
	return nil
}

func (b *batched) close() error { return b.conn.Close() }
