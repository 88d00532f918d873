// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"bytes"
	"testing"
)

// FuzzSplit cuts trains of any length into segments of any size: all bytes come out
// once and in order, no packet but the last is shorter than the others, and none
// can be written beyond its end into the next.
func FuzzSplit(f *testing.F) {
	for _, sizes := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {1200, 1200}, {1201, 1200}, {65507, 1}, {65507, 9000}, {5, 65535}} {
		f.Add(uint16(sizes[0]), uint16(sizes[1]))
	}
	f.Fuzz(func(t *testing.T, length, segment uint16) {
		buf := make([]byte, TrainRoom)
		for i := range buf {
			buf[i] = byte(i * 7)
		}
		next := Message{Buf: []byte("next"), N: 4}
		parts := Split(nil, []Message{{Buf: buf, N: int(length), Segment: int(segment)}, next})
		last := len(parts) - 1
		if string(parts[last].Data()) != "next" {
			t.Fatal("the message behind it was changed")
		}
		var all []byte
		for i, p := range parts[:last] {
			if segment > 0 && (len(p.Data()) > int(segment) || i < last-1 && len(p.Data()) < int(segment)) {
				t.Fatalf("packet %d of %d has %d bytes of %d", i, last, len(p.Data()), segment)
			}
			if last > 1 && cap(p.Buf) != len(p.Data()) {
				t.Fatalf("packet %d has room for %d bytes behind its %d", i, cap(p.Buf), len(p.Data()))
			}
			all = append(all, p.Data()...)
		}
		if !bytes.Equal(all, buf[:length]) {
			t.Fatalf("%d bytes in %d packets became %d", length, last, len(all))
		}
	})
}
