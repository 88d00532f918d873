// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropped follows the kernel's count of what a socket lost. That one has 32 bits,
// some minutes of a flood: whoever asks now and then gets all of it.
type dropped struct {
	mu    sync.Mutex
	last  uint32
	total uint64
}

// memInfo is what SO_MEMINFO fills in: the kernel's sk_meminfo, by its indices
// (linux/sock_diag.h).
type memInfo [9]uint32

const memInfoDrops = 8 // SK_MEMINFO_DROPS

// read asks the kernel. Of a socket that is closed it returns what was known last.
func (d *dropped) read(raw syscall.RawConn) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = raw.Control(func(fd uintptr) {
		var info memInfo
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return // Linux before 4.12
		}
		d.total += uint64(info[memInfoDrops] - d.last)
		d.last = info[memInfoDrops]
	})
	return d.total
}
