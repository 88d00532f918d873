// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sources asks the kernel which address it would send from. The zero value is
// ready; it is for one goroutine at a time, in the network namespace where it was
// asked first, and is to be closed.
//
// Connecting a UDP socket sends nothing and chooses the source as sending does. One
// socket for each family is connected again and again: that takes a microsecond,
// making one for each question ten times that.
type Sources struct {
	four, six int // descriptors plus one; 0: not open
}

// To returns the address that packets to remote would leave from; the zero Addr
// where there is no way to it.
func (s *Sources) To(remote netip.AddrPort) netip.Addr {
	family, fd := unix.AF_INET6, &s.six
	if addr := remote.Addr(); addr.Is4() || addr.Is4In6() {
		family, fd = unix.AF_INET, &s.four
	}
	if *fd == 0 {
		n, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return netip.Addr{}
		}
		*fd = n + 1
	}
	var sa unix.RawSockaddrInet6 // AF_UNSPEC: not connected, or the source would stay
	if !connect(*fd-1, &sa, unix.SizeofSockaddrInet6) || !connect(*fd-1, &sa, putAddrPort(&sa, remote, family == unix.AF_INET6)) {
		return netip.Addr{}
	}
	size := uint32(unix.SizeofSockaddrInet6)
	if _, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(*fd-1), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.Addr{}
	}
	return addrPort(&sa).Addr()
}

func connect(fd int, sa *unix.RawSockaddrInet6, size uint32) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(sa)), uintptr(size))
	return errno == 0
}

// Close closes the sockets. Sources can be asked again, which opens others.
func (s *Sources) Close() {
	for _, fd := range []int{s.four, s.six} {
		if fd > 0 {
			unix.Close(fd - 1)
		}
	}
	*s = Sources{}
}
