// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// TestRing compares the ring with a slice of slices over random puts and takes.
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
			if r.put(p) != room {
				t.Fatalf("put of %d with %d used: %v", len(p), used, !room)
			}
			if room {
				want = append(want, p)
				used += recordHeader + len(p)
			} else {
				refused++
			}
			continue
		}
		if r.empty() != (len(want) == 0) {
			t.Fatalf("empty: %v with %d inside", r.empty(), len(want))
		}
		if r.empty() {
			continue
		}
		n, err := r.take(buf)
		if err != nil || !bytes.Equal(buf[:n], want[0]) {
			t.Fatalf("another datagram came out, %v", err)
		}
		used -= recordHeader + n
		want = want[1:]
	}
	if refused == 0 {
		t.Error("the limit was never met: the test shows less than it says")
	}
}

func TestRingShortBuffer(t *testing.T) {
	r := ring{limit: ringLimit(0)}
	r.put([]byte("a long datagram"))
	r.put(nil)
	r.put([]byte("next"))
	p := make([]byte, 6)
	if n, err := r.take(p); string(p[:n]) != "a long" || !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("take: %q, %v", p[:n], err)
	}
	if n, err := r.take(p); n != 0 || err != nil {
		t.Errorf("the empty one: %q, %v", p[:n], err)
	}
	if n, err := r.take(p); string(p[:n]) != "next" || err != nil {
		t.Errorf("the next one: %q, %v", p[:n], err)
	}
	if r.mem != nil {
		t.Error("an empty ring holds memory")
	}
}

func TestRingBounds(t *testing.T) {
	for _, c := range []struct{ bytes, want int }{
		{0, 4096}, {4096, 4096}, {8191, 4096}, {8192, 8192}, {1 << 24, 1 << 24}, {1 << 30, 1 << 24},
	} {
		if got := ringLimit(c.bytes); got != c.want {
			t.Errorf("limit of %d: %d, want %d", c.bytes, got, c.want)
		}
	}
	r := ring{limit: ringLimit(1 << 24)}
	if !r.put(make([]byte, 1<<16-1)) || r.put(make([]byte, 1<<16)) {
		t.Error("a datagram has at most 65,535 bytes")
	}
}
