// SPDX-License-Identifier: Apache-2.0

// Package netio reads and writes UDP datagrams in batches and knows, for each
// of them, both ends: where it came from and which of our addresses it was
// sent to, so that an answer leaves from the address that was asked.
//
// On Linux a batch is one system call (recvmmsg, sendmmsg) behind Go's
// network poller, without an allocation for each packet; elsewhere the same
// interface stands on net.UDPConn, one datagram a call. XSK is an AF_XDP socket, whose
// batches take no system call while packets come.
//
// ICMP never changes anything: an error that only reports what some router or
// host said about an earlier datagram is swallowed.
package netio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// MaxBatch is the largest number of messages that one system call moves. A
// longer slice is read in part and written in several calls.
const MaxBatch = 128

// Message is one datagram and its two ends.
type Message struct {
	// Buf is the room to read into (all of its length), or, for a write, the
	// datagram. Reading leaves its length alone and sets N.
	Buf []byte
	// N is the number of bytes read into Buf. It is 0 for a datagram that did
	// not fit: its rest is lost, so it is of no use. Unused for a write.
	N int
	// Remote is the peer's address, never an IPv4-mapped one.
	Remote netip.AddrPort
	// Local is our own address: read, the one the datagram was sent to;
	// written, the one it leaves from (invalid or unspecified: the kernel
	// chooses). The port is always the socket's and is ignored for a write.
	Local netip.AddrPort
	// Segment is, read from a socket with GRO, the size of each packet in a Buf
	// that holds several, the last one perhaps shorter (see Split); 0 for one
	// packet. Unused for a write, which joins packets by itself.
	Segment int
	// Link is, read from an AF_XDP socket, the link-layer header by which the
	// datagram's frame would be answered; written to one, that of the frame. Others
	// leave it alone.
	Link Link
}

// Data returns the bytes that a read left in the message.
func (m *Message) Data() []byte { return m.Buf[:m.N] }

// TrainRoom is the room in bytes that a socket with GRO needs in each Message.
const TrainRoom = 1 << 16

// MakeMessages returns n messages to read into, with room for size bytes each.
func MakeMessages(n, size int) []Message {
	// An odd number of cache lines apart: a power of two apart, the first lines of
	// all, and of small packets there are no others, would crowd a few sets of the
	// cache.
	stride := (size+63)&^63 | 64
	memory := make([]byte, n*stride)
	ms := make([]Message, n)
	for i := range ms {
		ms[i].Buf = memory[i*stride : i*stride+size : i*stride+size]
	}
	return ms
}

// Split appends the packets of ms to dst, one message each, which alias the
// buffers of ms. Only a socket with GRO needs it.
func Split(dst, ms []Message) []Message {
	for i := range ms {
		m := &ms[i]
		if m.Segment <= 0 || m.N <= m.Segment {
			dst = append(dst, *m)
			continue
		}
		for data := m.Data(); len(data) > 0; {
			n := min(m.Segment, len(data))
			dst = append(dst, Message{Buf: data[:n:n], N: n, Remote: m.Remote, Local: m.Local})
			data = data[n:]
		}
	}
	return dst
}

// Conn is a socket that moves datagrams in batches. All methods may be called
// from several goroutines; reads wait for reads and writes for writes.
type Conn interface {
	// ReadBatch waits for at least one datagram and fills as many messages as
	// are waiting. Errors: net.ErrClosed after Close, os.ErrDeadlineExceeded
	// after the read deadline, both to be tested by errors.Is; others are of
	// the socket itself, never of a peer.
	ReadBatch(ms []Message) (int, error)
	// WriteBatch sends every message in order and waits while the socket's
	// buffer is full. On Linux messages in a row with the same ends and the same
	// length, but for a last one that may be shorter, cost little more than one
	// (UDP_SEGMENT), least where their bytes lie behind each other in memory.
	// A datagram that the kernel refuses (no route, larger
	// than the device's MTU, forbidden by a filter, ...) is skipped, as if
	// lost on the way. It returns how many were taken and the first refusal's
	// errno; net.ErrClosed after Close ends the batch.
	WriteBatch(ms []Message) (int, error)
	// Dropped is how many datagrams, or trains of them, came to the socket and were
	// dropped by the kernel: the receive buffer was full because the reader is too
	// slow, or the checksum was wrong (Linux: SK_MEMINFO_DROPS; elsewhere 0). After
	// Close it is what was lost until then.
	Dropped() uint64
	// LocalAddr returns the address that the socket is bound to.
	LocalAddr() netip.AddrPort
	// SetReadDeadline makes reads fail from t on; the zero time: never.
	SetReadDeadline(t time.Time) error
	// SyscallConn gives access to the descriptor, to register the socket in a map.
	SyscallConn() (syscall.RawConn, error)
	// Close wakes readers and writers with net.ErrClosed.
	Close() error
}

// Config says what socket ListenUDP opens.
type Config struct {
	// Addr is the address to bind. [::] takes IPv4 as well.
	Addr netip.AddrPort
	// ReusePort lets several sockets of the same user share Addr.
	ReusePort bool
	// ReadBuffer is the receive buffer in bytes; 0 leaves the system's
	// default. Beyond net.core.rmem_max it needs CAP_NET_ADMIN, else it is capped.
	ReadBuffer int
	// GRO lets the kernel join datagrams of one flow (Message.Segment) where it can
	// (UDP_GRO, Linux 5.0): each Message then needs room for TrainRoom bytes. Of a
	// reuseport group all sockets or none: the kernel picks the socket of a joined
	// train by hash.
	GRO bool
	// Device binds the socket to a network interface. Linux only.
	Device string
}

var (
	// ErrUnsupported means that this system lacks what Config asks for.
	ErrUnsupported = errors.New("not supported on this system")
	// ErrNoAddress means that Config.Addr is the zero AddrPort.
	ErrNoAddress = errors.New("no address to listen on: give one, for example [::]:7626")
)

// ListenUDP opens a UDP socket. Its packets carry DF and are never fragmented
// by us (RFC 8899 section 3: the path MTU is the caller's to find) and are Not-ECT.
//
// On a host without IPv6, [::] stands for 0.0.0.0.
func ListenUDP(cfg Config) (Conn, error) {
	addr := netip.AddrPortFrom(cfg.Addr.Addr().Unmap(), cfg.Addr.Port())
	if !addr.IsValid() {
		return nil, ErrNoAddress
	}
	conn, err := listen(cfg, addr)
	if errors.Is(err, syscall.EAFNOSUPPORT) && addr.Addr() == netip.IPv6Unspecified() {
		conn, err = listen(cfg, netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()))
	}
	if err != nil {
		return nil, fmt.Errorf("listen on udp %s: %w", addr, err)
	}
	return conn, nil
}

func listen(cfg Config, addr netip.AddrPort) (Conn, error) {
	// Go opens "udp" on the IPv4 wildcard as a dual-stack socket, hence the
	// explicit families.
	network := "udp6"
	switch {
	case addr.Addr().Is4():
		network = "udp4"
	case addr.Addr() == netip.IPv6Unspecified():
		network = "udp"
	}
	var optErr error
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		err := raw.Control(func(fd uintptr) { optErr = setOptions(fd, cfg, addr.Addr().Is6()) })
		return errors.Join(err, optErr)
	}}
	pc, err := lc.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		// The caller names the address: keep the cause only.
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, err
	}
	conn, err := newConn(pc.(*net.UDPConn), addr.Addr().Is6())
	if err != nil {
		return nil, errors.Join(err, pc.Close())
	}
	return conn, nil
}

// localAddr returns the bound address of a net.UDPConn, unmapped.
func localAddr(c *net.UDPConn) netip.AddrPort {
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
