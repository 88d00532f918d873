// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
)

// Trace is a packet for an id with FlagTrace, as one stage of the data plane met
// it: rate-limited, and cut at TraceBytes.
type Trace struct {
	Event
	Queue int // receive queue; 0 at the socket stage
	// Total is the length of the frame, at the socket stage of the IP packet, of
	// which Data holds the beginning: it is valid until the next Read.
	Total int
	Data  []byte
}

// TraceBytes is how much of a packet a Trace holds at most.
const TraceBytes = len(trace{}.Data)

// TraceReader reads the packets of traced ids; there is one reader at a time.
type TraceReader struct {
	ring   *ringbuf.Reader
	record ringbuf.Record
}

// Trace opens the ring buffer for reading. Close the reader.
func (s *Set) Trace() (*TraceReader, error) {
	if s.readOnly {
		return nil, ErrReadOnly
	}
	ring, err := ringbuf.NewReader(s.raw[mapTrace])
	if err != nil {
		return nil, fmt.Errorf("opening the trace ring: %w", err)
	}
	return &TraceReader{ring: ring}, nil
}

// Read waits for the next packet. It returns ErrClosed after Close, and an error
// that wraps os.ErrDeadlineExceeded once the deadline has passed.
func (r *TraceReader) Read() (Trace, error) {
	if err := r.ring.ReadInto(&r.record); err != nil {
		if errors.Is(err, ringbuf.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return Trace{}, err
		}
		return Trace{}, fmt.Errorf("reading the trace ring: %w", err)
	}
	return decodeTrace(r.record.RawSample)
}

// SetDeadline ends Read at t; the zero time is never.
func (r *TraceReader) SetDeadline(t time.Time) { r.ring.SetDeadline(t) }

// Close ends Read and frees the ring.
func (r *TraceReader) Close() error { return r.ring.Close() }

func decodeTrace(sample []byte) (Trace, error) {
	if len(sample) < int(unsafe.Sizeof(trace{})) {
		return Trace{}, fmt.Errorf("trace of %d bytes: want %d", len(sample), unsafe.Sizeof(trace{}))
	}
	const data = unsafe.Offsetof(trace{}.Data)
	event, err := decodeEvent(sample)
	if err != nil {
		return Trace{}, err
	}
	order := binary.NativeEndian
	captured := order.Uint16(sample[unsafe.Offsetof(trace{}.Captured):])
	return Trace{
		Event: event, Queue: int(order.Uint16(sample[unsafe.Offsetof(trace{}.Queue):])),
		Total: int(order.Uint32(sample[unsafe.Offsetof(trace{}.Length):])),
		Data:  sample[data:][:min(int(captured), TraceBytes)],
	}, nil
}
