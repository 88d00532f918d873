// SPDX-License-Identifier: Apache-2.0

package hugepages

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Memory that is in use gets huge pages; what is hardly used, or was given back, costs
// what it did before, and nothing changes in it.
func TestFinish(t *testing.T) {
	enabled, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	switch {
	case err != nil:
		t.Skip("a kernel without transparent huge pages: ", err)
	case !strings.Contains(string(enabled), "[madvise]"):
		t.Skip("transparent_hugepage is not madvise: ", string(enabled))
	}
	memory := mapped(t, large+2*Size)
	memory[0] = 1
	if unix.Madvise(memory[:Size], unix.MADV_COLLAPSE) == unix.EINVAL {
		t.Skip("a kernel without MADV_COLLAPSE (Linux 6.1)")
	}
	const used, hardly = 8, 8 // huge pages
	for i := 0; i < used*Size; i += 8 {
		memory[i] = byte(i >> 3)
	}
	sparse := memory[used*Size : (used+hardly)*Size]
	for i := 0; i < len(sparse); i += 8 * pageSize {
		sparse[i] = 1
	}
	back := memory[3*Size : 4*Size]
	if err := unix.Madvise(back[:Size/2], unix.MADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	before := present(t, sparse) + present(t, back)

	var c Collapser
	for deadline := time.Now().Add(20 * time.Second); ; { // others may hold a page for a moment
		c.Finish()
		if got := huge(t, memory); got == (used-1)*Size {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d bytes are on huge pages, want %d", got, (used-1)*Size)
		}
	}
	if got := present(t, sparse) + present(t, back); got != before {
		t.Errorf("%d pages that are hardly used are there, %d were", got, before)
	}
	for i := 0; i < used*Size; i += 8 {
		want := byte(i >> 3)
		if i/Size == 3 && i%Size < Size/2 {
			want = 0
		}
		if memory[i] != want {
			t.Fatalf("byte %d is %d, was %d", i, memory[i], want)
		}
	}
}

// A Step that has been busy is followed by rest, and one that has seen all by more.
func TestStepRests(t *testing.T) {
	var c Collapser
	before := time.Now()
	for c.rest.Sub(before) < settled {
		c.rest = time.Time{}
		c.Step()
	}
	c.next = 1
	c.Step()
	if c.next != 1 {
		t.Error("it did not rest")
	}
}

// mapped returns memory that starts where a huge page can.
func mapped(t *testing.T, size int) []byte {
	t.Helper()
	m, err := unix.Mmap(-1, 0, size+Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(m) })
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(m))) % Size
	return m[skip:][:size]
}

func present(t *testing.T, b []byte) int {
	t.Helper()
	pages := make([]byte, len(b)/pageSize)
	if _, _, no := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		uintptr(unsafe.Pointer(unsafe.SliceData(pages)))); no != 0 {
		t.Fatal(no)
	}
	return resident(pages)
}

// huge is how much of the mapping that holds b is on huge pages.
func huge(t *testing.T, b []byte) int {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	within := false
	for line := range strings.Lines(string(smaps)) {
		var from, to uintptr
		var kilobytes int
		if _, err := fmt.Sscanf(line, "%x-%x ", &from, &to); err == nil {
			within = from <= at && at < to
		} else if _, err := fmt.Sscanf(line, "AnonHugePages: %d kB", &kilobytes); err == nil && within {
			return kilobytes << 10
		}
	}
	t.Fatal("the mapping is not in smaps")
	return 0
}
