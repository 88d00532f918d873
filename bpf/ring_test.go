// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// ring reads what is in a ring buffer of records, without waiting for more.
type ring[T any] struct {
	t testing.TB
	r *ringbuf.Reader
}

func (p *plane) events() ring[bpf.RoamRoamEvent] {
	return openRing[bpf.RoamRoamEvent](p, p.objs.Events)
}
func (p *plane) traces() ring[bpf.RoamRoamTrace] { return openRing[bpf.RoamRoamTrace](p, p.objs.Trace) }

func openRing[T any](p *plane, m *ebpf.Map) ring[T] {
	r, err := ringbuf.NewReader(m)
	p.must(err)
	p.t.Cleanup(func() { r.Close() })
	e := ring[T]{p.t, r}
	e.read() // what other tests left
	return e
}

func (e ring[T]) read() (all []T) {
	e.t.Helper()
	for {
		e.r.SetDeadline(time.Now())
		record, err := e.r.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			e.t.Fatal(err)
		}
		var one T
		if err := binary.Read(bytes.NewReader(record.RawSample), binary.LittleEndian, &one); err != nil {
			e.t.Fatal(err)
		}
		all = append(all, one)
	}
}
