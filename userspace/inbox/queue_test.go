// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestQueue compares the queue with a slice of slices over random puts and takes.
func TestQueue(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	q := queue{limit: queueLimit(20000)}
	if q.limit != 16384 {
		t.Fatalf("limit %d", q.limit)
	}
	var want [][]byte
	used, refused, blocks := 0, 0, 0
	buf := make([]byte, 4096)
	for range 20000 {
		if rng.IntN(5) < 3 {
			p := make([]byte, rng.IntN(2000))
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			room := used+recordHeader+len(p) <= int(q.limit)
			if q.put(p) != room {
				t.Fatalf("put of %d with %d used: %v", len(p), used, !room)
			}
			if room {
				want = append(want, p)
				used += recordHeader + len(p)
			} else {
				refused++
			}
			if q.first != q.last {
				blocks++
			}
			continue
		}
		if q.empty() != (len(want) == 0) {
			t.Fatalf("empty: %v with %d inside", q.empty(), len(want))
		}
		if q.empty() {
			continue
		}
		if n := q.take(buf); n != len(want[0]) || !bytes.Equal(buf[:n], want[0]) {
			t.Fatal("another datagram came out")
		}
		used -= recordHeader + len(want[0])
		want = want[1:]
	}
	if refused == 0 || blocks == 0 {
		t.Errorf("%d refused, %d times several blocks: the test shows less than it says", refused, blocks)
	}
}

func TestQueueShortBuffer(t *testing.T) {
	q := queue{limit: queueLimit(0)}
	q.put([]byte("a long datagram"))
	q.put(nil)
	q.put([]byte("next"))
	p := make([]byte, 6)
	if n := q.take(p); n != 15 || string(p) != "a long" {
		t.Errorf("take: %d, %q", n, p)
	}
	if n := q.take(p); n != 0 {
		t.Errorf("the empty one: %d", n)
	}
	if n := q.take(p); n != 4 || string(p[:n]) != "next" {
		t.Errorf("the next one: %d, %q", n, p)
	}
	if q.first != nil || q.last != nil || q.used != 0 {
		t.Error("an empty queue holds memory")
	}
}

func TestQueueBounds(t *testing.T) {
	for _, c := range []struct {
		bytes int
		want  int32
	}{
		{-1, 4096}, {0, 4096}, {4096, 4096}, {8191, 4096}, {8192, 8192}, {1 << 24, 1 << 24}, {1 << 30, 1 << 24},
	} {
		if got := queueLimit(c.bytes); got != c.want {
			t.Errorf("limit of %d: %d, want %d", c.bytes, got, c.want)
		}
	}
	q := queue{limit: queueLimit(1 << 24)}
	for range 3 {
		if !q.put(make([]byte, 1<<16-1)) || q.put(make([]byte, 1<<16)) {
			t.Fatal("a datagram has at most 65,535 bytes")
		}
	}
	for range 3 {
		if n := q.take(make([]byte, 1<<16)); n != 1<<16-1 {
			t.Errorf("a datagram of 65,535 bytes came out as %d", n)
		}
	}
}
