// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
)

// ErrClosed: the event reader was closed.
var ErrClosed = ringbuf.ErrClosed

// Event is a packet that the data plane finds worth showing: rate-limited, a
// hint for people and never a fact to act on.
type Event struct {
	Since    time.Duration // CLOCK_MONOTONIC
	Stage    Stage
	Reason   Reason
	ID       ID // zero where the packet has none
	Src, Dst netip.AddrPort
	Length   int // of the UDP payload, bytes
	Ifindex  int // 0 at the socket stage
}

// EventReader reads the data plane's events; there is one reader at a time.
type EventReader struct {
	ring   *ringbuf.Reader
	record ringbuf.Record
}

// Events opens the ring buffer for reading. Close the reader.
func (s *Set) Events() (*EventReader, error) {
	if s.readOnly {
		return nil, ErrReadOnly
	}
	ring, err := ringbuf.NewReader(s.raw[mapEvents])
	if err != nil {
		return nil, fmt.Errorf("opening the event ring: %w", err)
	}
	return &EventReader{ring: ring}, nil
}

// Read waits for the next event. It returns ErrClosed after Close, and an
// error that wraps os.ErrDeadlineExceeded once the deadline has passed.
func (r *EventReader) Read() (Event, error) {
	if err := r.ring.ReadInto(&r.record); err != nil {
		if errors.Is(err, ringbuf.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return Event{}, err
		}
		return Event{}, fmt.Errorf("reading the event ring: %w", err)
	}
	return decodeEvent(r.record.RawSample)
}

// SetDeadline ends Read at t; the zero time is never.
func (r *EventReader) SetDeadline(t time.Time) { r.ring.SetDeadline(t) }

// Close ends Read and frees the ring.
func (r *EventReader) Close() error { return r.ring.Close() }

func decodeEvent(sample []byte) (Event, error) {
	// The ring rounds a record up to eight bytes.
	if len(sample) < int(unsafe.Sizeof(event{})) {
		return Event{}, fmt.Errorf("event of %d bytes: want %d", len(sample), unsafe.Sizeof(event{}))
	}
	var e event
	if _, err := binary.Decode(sample, binary.NativeEndian, &e); err != nil {
		return Event{}, fmt.Errorf("decoding an event: %w", err)
	}
	return Event{
		Since:   time.Duration(e.Ktime),
		Stage:   Stage(e.Stage),
		Reason:  Reason(e.Reason),
		ID:      fromWords(e.Id[0], e.Id[1]),
		Src:     netip.AddrPortFrom(fromAddrWords(e.Src[0], e.Src[1]), networkOrder(e.Sport)),
		Dst:     netip.AddrPortFrom(fromAddrWords(e.Dst[0], e.Dst[1]), networkOrder(e.Dport)),
		Length:  int(e.Length),
		Ifindex: int(e.Ifindex),
	}, nil
}
