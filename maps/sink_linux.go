// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sink adds a socket to the reuseport group of conn that takes in nothing, and
// lets the socket stage send there what it drops. Without one the kernel
// answers each drop with ICMP port unreachable: an answer to unauthenticated
// bytes, and one that tells right ids from wrong ones. Close the sink with the
// group's other sockets.
func (k *Sockets) Sink(listener uint16, conn syscall.RawConn) (io.Closer, error) {
	var s sink
	if err := control(conn, func(fd int) (err error) {
		s, err = newSink(fd)
		return err
	}); err != nil {
		return nil, fmt.Errorf("opening the sink socket: %w", err)
	}
	if err := k.Register(listener, 0, LaneSink, s); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// sink is the socket's descriptor.
type sink int

func (s sink) Close() error { return unix.Close(int(s)) }

// A sink is registered as other sockets are, by way of a RawConn.
func (s sink) Control(f func(fd uintptr)) error { f(uintptr(s)); return nil }
func (s sink) Read(func(uintptr) bool) error    { return errors.ErrUnsupported }
func (s sink) Write(func(uintptr) bool) error   { return errors.ErrUnsupported }

// newSink opens a socket in the group of the model.
func newSink(model int) (sink, error) {
	addr, err := unix.Getsockname(model)
	if err != nil {
		return 0, err
	}
	family := unix.AF_INET
	if _, six := addr.(*unix.SockaddrInet6); six {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return 0, err
	}
	// Deaf before it is bound, so that it takes in not a single packet.
	deaf := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &deaf}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		likeModel(fd, model, family),
	)
	if err == nil {
		err = unix.Bind(fd, addr)
	}
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return sink(fd), nil
}

// likeModel copies what makes two sockets one group, and UDP_GRO: GRO looks at
// whichever socket of the group the hash picks.
func likeModel(fd, model, family int) error {
	options := [][2]int{{unix.SOL_UDP, unix.UDP_GRO}}
	if family == unix.AF_INET6 {
		options = append(options, [2]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY})
	}
	for _, o := range options {
		value, err := unix.GetsockoptInt(model, o[0], o[1])
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, o[0], o[1], value); err != nil {
			return err
		}
	}
	device, err := unix.GetsockoptString(model, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	if err != nil || device == "" {
		return err
	}
	return unix.BindToDevice(fd, device)
}
