// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// TestRing compares the ring with a slice of slices over random pushes and pops.
func TestRing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := ring{limit: ringLimit(20000)}
	if r.limit != 16384 {
		t.Fatalf("limit %d", r.limit)
	}
	var want [][]byte
	used, refused := 0, 0
	buf := make([]byte, 4096)
	for range 20000 {
		if rng.IntN(5) < 3 {
			p := make([]byte, rng.IntN(2000))
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			room := used+recordHeader+len(p) <= r.limit
			if r.push(p) != room {
				t.Fatalf("push of %d with %d used: %v", len(p), used, !room)
			}
			if room {
				want = append(want, p)
				used += recordHeader + len(p)
			} else {
				refused++
			}
			continue
		}
		n, ok, err := r.pop(buf)
		if ok != (len(want) > 0) || err != nil {
			t.Fatalf("pop: %v, %v with %d inside", ok, err, len(want))
		}
		if ok {
			if !bytes.Equal(buf[:n], want[0]) {
				t.Fatal("another datagram came out")
			}
			used -= recordHeader + n
			want = want[1:]
		}
	}
	if refused == 0 {
		t.Error("the limit was never met: the test shows less than it says")
	}
}

func TestRingShortBuffer(t *testing.T) {
	r := ring{limit: ringLimit(0)}
	r.push([]byte("a long datagram"))
	r.push([]byte("next"))
	p := make([]byte, 6)
	if n, ok, err := r.pop(p); n != 6 || !ok || !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("pop: %d, %v, %v", n, ok, err)
	}
	if n, _, err := r.pop(p); string(p[:n]) != "next" || err != nil {
		t.Errorf("the next one: %q, %v", p[:n], err)
	}
	if r.mem != nil {
		t.Error("an empty ring holds memory")
	}
}

func TestRingWake(t *testing.T) {
	r := ring{limit: ringLimit(0)}
	ready := r.wait()
	select {
	case <-ready:
		t.Fatal("woken by nothing")
	default:
	}
	r.push([]byte("x"))
	<-ready
	r.push([]byte("y"))
	<-ready // the second reader of two must learn of the second datagram
	r.done()
	r.close()
	if r.push([]byte("z")) {
		t.Error("a closed ring took a datagram")
	}
	if n, ok, _ := r.pop(make([]byte, 4)); n != 1 || !ok {
		t.Error("a closed ring lost what was inside")
	}
}

func TestRingAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool allocates at random under the race detector")
	}
	r := ring{limit: ringLimit(1 << 16)}
	p, out := make([]byte, 1200), make([]byte, 2048)
	if n := testing.AllocsPerRun(200, func() {
		for range 8 {
			r.push(p)
		}
		for range 8 {
			r.pop(out)
		}
	}); n > 0 {
		t.Errorf("%v allocations for eight datagrams", n)
	}
}
