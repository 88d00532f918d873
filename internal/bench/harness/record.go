// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Recording is memory for frames that the harness plays. It is shared with the
// kernel: what is written to it is played.
type Recording struct {
	h       *Harness
	records []harnessHarnessRecord
	unmap   func() error
	length  int
}

// ErrRecordingFull means that a frame is too large, or one too many.
var ErrRecordingFull = errors.New("the recording is full")

// Recording maps the memory for frames, as many as the map harness_records was
// loaded with. The caller closes it.
func (h *Harness) Recording() (*Recording, error) {
	records, unmap, err := MapArray[harnessHarnessRecord](h.Maps[harnessMapHarnessRecords])
	if err != nil {
		return nil, err
	}
	return &Recording{h: h, records: records, unmap: unmap}, nil
}

// RecordsMap is the map whose size, in Options.Entries, is how many frames a
// recording has room for.
const RecordsMap = harnessMapHarnessRecords

// Close unmaps the memory.
func (r *Recording) Close() error { return r.unmap() }

// Reset forgets all frames.
func (r *Recording) Reset() { r.length = 0 }

// Len is the number of frames.
func (r *Recording) Len() int { return r.length }

// Append adds a frame with a payload, or fails with ErrRecordingFull.
func (r *Recording) Append(e Ends, payload []byte) error {
	if r.length == len(r.records) || headersLen+len(payload) > len(r.records[0].Bytes) {
		return fmt.Errorf("%w: %d frames, this one of %d bytes", ErrRecordingFull, r.length, headersLen+len(payload))
	}
	rec := &r.records[r.length]
	rec.Length = uint32(len(e.AppendFrame(rec.Bytes[:0], payload)))
	r.length++
	return nil
}

// Payload returns the UDP payload of a frame, in place.
func (r *Recording) Payload(i int) []byte {
	rec := &r.records[i]
	return rec.Bytes[headersLen:rec.Length]
}

// Play makes the harness play the recording from its first frame on.
func (r *Recording) Play() error {
	if r.length == 0 {
		return errors.New("the recording is empty")
	}
	// A page of the frame's length: the kernel copies it into each one, and the
	// harness the recorded frame over it.
	r.h.frame = append([]byte(nil), r.records[0].Bytes[:r.records[0].Length]...)
	return r.h.Maps["harness_configs"].Put(uint32(0), harnessHarnessConfig{Records: uint32(r.length), Random: 1})
}

// MapArray is the memory of a mmapable array map, until unmap is called.
func MapArray[T any](m *ebpf.Map) (values []T, unmap func() error, err error) {
	var value T
	size := int(m.MaxEntries()) * int(unsafe.Sizeof(value))
	mem, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping %v: %w", m, err)
	}
	values = unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), m.MaxEntries())
	return values, func() error { return unix.Munmap(mem) }, nil
}
