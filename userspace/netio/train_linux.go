// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits of a train, the packets that leave as one message by UDP_SEGMENT: the
// kernel's UDP_MAX_SEGMENTS before 6.9, and what an IP packet holds beside the
// larger headers of both families.
const (
	maxTrain      = 64
	maxTrainBytes = 65535 - 40 - 8
)

// train returns how many of ms from the first on make one train: the same ends
// and the same size, but for a last one that may be shorter.
func train(ms []Message) int {
	first := &ms[0]
	size := len(first.Buf)
	if size == 0 {
		return 1
	}
	room := min(len(ms), maxTrain, maxTrainBytes/size)
	n := 1
	for n < room {
		m := &ms[n]
		if len(m.Buf) > size || len(m.Buf) == 0 || m.Remote != first.Remote || m.Local != first.Local {
			break
		}
		n++
		if len(m.Buf) < size {
			break
		}
	}
	return n
}

// gather points iovs to the bytes of ms and returns how many it took: packets
// that lie behind each other in memory, as a session seals them, share one.
func gather(iovs []unix.Iovec, ms []Message) int {
	n := 0
	var end uintptr // of the last one
	for i := range ms {
		buf := ms[i].Buf
		base := unsafe.SliceData(buf)
		if n > 0 && uintptr(unsafe.Pointer(base)) == end {
			iovs[n-1].SetLen(int(iovs[n-1].Len) + len(buf))
		} else {
			iovs[n].Base = base
			iovs[n].SetLen(len(buf))
			n++
		}
		end = uintptr(unsafe.Pointer(base)) + uintptr(len(buf))
	}
	return n
}

// knowsSegments reports whether the kernel has UDP_SEGMENT (Linux 4.18).
func knowsSegments(raw syscall.RawConn) bool {
	var err error
	ctlErr := raw.Control(func(fd uintptr) { _, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT) })
	return err == nil && ctlErr == nil
}
