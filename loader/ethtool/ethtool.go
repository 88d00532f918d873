// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package ethtool asks network drivers about their interfaces by the ethtool ioctl
// (linux/ethtool.h).
package ethtool

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Query runs one ethtool command on an interface of this network namespace. value is
// the C structure of that command: its first field, a u32, is the command
// (unix.ETHTOOL_GCHANNELS and others), and the driver fills in the rest. Errors: those of
// socket(2) and ioctl(2); unix.EOPNOTSUPP where the driver does not know the command.
func Query[T any](name string, value *T) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var request struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = unsafe.Pointer(value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(value)
	if errno != 0 {
		return errno
	}
	return nil
}
