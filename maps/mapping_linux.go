// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// mapping is an array map's memory as a slice of its values. It is unmapped
// when owner, the wrapper that uses it, is garbage: a late reader (a metrics
// request during shutdown) then finds old numbers and no fault. So a method
// that touches entries without owner's lock ends with runtime.KeepAlive.
func mapping[T, O any](m *ebpf.Map, readOnly bool, owner *O) ([]T, error) {
	var value T
	if int(m.ValueSize()) != int(unsafe.Sizeof(value)) {
		return nil, fmt.Errorf("mapping %s: its values have %d bytes, this version's %d", m, m.ValueSize(), unsafe.Sizeof(value))
	}
	size := (int(m.MaxEntries())*int(m.ValueSize()) + os.Getpagesize() - 1) &^ (os.Getpagesize() - 1)
	protection := unix.PROT_READ | unix.PROT_WRITE
	if readOnly {
		protection = unix.PROT_READ
	}
	bytes, err := unix.Mmap(m.FD(), 0, size, protection, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %s into memory: %w", m, err)
	}
	runtime.AddCleanup(owner, func(b []byte) { _ = unix.Munmap(b) }, bytes)
	return unsafe.Slice((*T)(unsafe.Pointer(&bytes[0])), m.MaxEntries()), nil
}
