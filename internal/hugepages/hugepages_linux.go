// SPDX-License-Identifier: Apache-2.0

package hugepages

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pageSize = 4096
	// window is how much memory is looked at in one go.
	window = 64 * Size
	// most is how many huge pages are asked for in one go.
	most = 8
	// full is how many small pages have to be there.
	full = Size / pageSize * 15 / 16
	// large is the least mapping that is looked at. The heap of Go is one, and grows in
	// place; that of a process which has less has little to gain.
	large = 128 << 20
)

// room is a byte for each page of a window: whether it is there.
type room [window / pageSize]byte

// advance goes on until the time, and reports whether it has come to the end.
func (c *Collapser) advance(until time.Time) (through bool) {
	if os.Getpagesize() != pageSize || forbidden() {
		return true
	}
	for _, m := range mappings() {
		for at := max(m.start, c.next); at+Size <= m.end; at += window {
			if c.next = at; !time.Now().Before(until) {
				return false
			}
			c.collapse(at, min(window, (m.end-at)&^(Size-1)))
		}
	}
	c.next = 0
	return true
}

// collapse asks for huge pages where memory is full of small ones; where it has huge
// ones already, that costs next to nothing.
func (c *Collapser) collapse(at, size uintptr) {
	const per = Size / pageSize
	present := c.room[:size/pageSize]
	if _, _, no := unix.Syscall(unix.SYS_MINCORE, at, size, uintptr(unsafe.Pointer(unsafe.SliceData(present)))); no != 0 {
		return // no longer mapped
	}
	for i := uintptr(0); i < size/Size; {
		n := uintptr(0)
		for ; n < most && i+n < size/Size && resident(present[(i+n)*per:(i+n+1)*per]) >= full; n++ {
		}
		if n > 0 {
			// Fails if the kernel is too old or finds no memory in one piece: next time, perhaps.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, at+i*Size, n*Size, unix.MADV_COLLAPSE)
		}
		i += max(n, 1)
	}
}

// resident counts the pages that mincore says are there.
func resident(present []byte) (n int) {
	for _, p := range present {
		n += int(p & 1)
	}
	return n
}

// forbidden reports whether the operator wants no huge pages: MADV_COLLAPSE does not
// heed that itself. A kernel without them has no such file.
func forbidden() bool {
	enabled, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	return err != nil || bytes.Contains(enabled, []byte("[never]"))
}

// mapping is memory; start is where a huge page can be.
type mapping struct{ start, end uintptr }

// mappings returns the large ones of the process that are nothing but memory of its own.
func mappings() (all []mapping) {
	lines, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(lines)) {
		// START-END PERMISSIONS OFFSET DEVICE INODE [NAME]
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[1] != "rw-p" || fields[4] != "0" || len(fields) > 5 && !strings.HasPrefix(fields[5], "[anon") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && end-start >= large {
			all = append(all, mapping{(uintptr(start) + Size - 1) &^ (Size - 1), uintptr(end)})
		}
	}
	return all
}
