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
	q := queue{limitBits: queueLimit(20000)}
	if q.room() != 16384 {
		t.Fatalf("room for %d", q.room())
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
			room := used+recordHeader+len(p) <= 16384
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
	q := queue{limitBits: queueLimit(0)}
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

// TestQueueReserve makes datagrams where they will lie, between others that are
// copied and while readers take, and compares with a slice of slices.
func TestQueueReserve(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	q := queue{limitBits: queueLimit(1 << 17)}
	var want [][]byte
	buf := make([]byte, 4096)
	take := func(most int) {
		for ; most > 0 && !q.empty(); most-- {
			if n := q.take(buf); !bytes.Equal(buf[:n], want[0]) {
				t.Fatal("another datagram came out")
			}
			want = want[1:]
		}
	}
	refused, there := 0, 0
	for range 20000 {
		need := rng.IntN(40000)
		room := q.reserve(need)
		if room == nil && q.room() >= need || room != nil && len(room) < need {
			t.Fatalf("%d of %d bytes reserved, there was room for %d", len(room), need, q.room())
		}
		if room == nil {
			refused++
		}
		take(rng.IntN(4)) // whoever writes in between sees nothing of this
		var made [][]byte
		for range rng.IntN(12) {
			n := rng.IntN(2000)
			p := make([]byte, n)
			if len(room) < recordHeader+n || rng.IntN(20) == 0 {
				room = nil // it, and all behind it, lie elsewhere
			} else {
				p, room = room[recordHeader:recordHeader+n], room[recordHeader+n:]
				there++
			}
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			made = append(made, p)
		}
		if len(room) > 0 {
			room[0]++ // what was refused was there
		}
		take(rng.IntN(4))
		for _, p := range made {
			d := bytes.Clone(p)
			if q.put(p) {
				want = append(want, d)
			}
		}
		q.release()
		if q.empty() && q.first != nil {
			t.Fatal("an empty queue holds memory")
		}
		take(rng.IntN(3))
	}
	if refused == 0 || there == 0 {
		t.Errorf("%d refused, %d in place: the test shows less than it says", refused, there)
	}
}

func TestQueueBounds(t *testing.T) {
	for _, c := range []struct {
		bytes int
		want  int
	}{
		{-1, 4096}, {0, 4096}, {4096, 4096}, {8191, 4096}, {8192, 8192}, {1 << 24, 1 << 24}, {1 << 30, 1 << 24},
	} {
		if got := 1 << queueLimit(c.bytes); got != c.want {
			t.Errorf("limit of %d: %d, want %d", c.bytes, got, c.want)
		}
	}
	q := queue{limitBits: queueLimit(1 << 24)}
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
