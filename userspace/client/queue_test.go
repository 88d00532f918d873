// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"
)

func TestQueueKeepsOrderAndBounds(t *testing.T) {
	q := newQueue(3)
	p := make([]byte, 10)
	for round := range 4 { // more than once around the ring
		for i := range 5 {
			q.push([][]byte{fmt.Appendf(nil, "%d-%d", round, i)})
		}
		for i := range 3 {
			n, ok, err := q.pop(p)
			if want := fmt.Sprintf("%d-%d", round, i); !ok || err != nil || string(p[:n]) != want {
				t.Fatalf("got %q %v %v, want %q", p[:n], ok, err, want)
			}
		}
		if _, ok, _ := q.pop(p); ok {
			t.Fatal("more than fits came out")
		}
	}
	if got := q.overflow(); got != 8 {
		t.Errorf("%d dropped, want 8", got)
	}
	if len(q.free) != 3 {
		t.Errorf("memory of %d datagrams is kept, at most 3 waited", len(q.free))
	}
}

func TestQueueShortBuffer(t *testing.T) {
	q := newQueue(2)
	q.push([][]byte{[]byte("hello"), {}})
	p := make([]byte, 3)
	if n, ok, err := q.pop(p); n != 3 || !ok || !errors.Is(err, io.ErrShortBuffer) || string(p) != "hel" {
		t.Errorf("%d %v %v %q", n, ok, err, p)
	}
	if n, ok, err := q.pop(p); n != 0 || !ok || err != nil {
		t.Errorf("an empty datagram: %d %v %v", n, ok, err)
	}
}

func TestQueueCopies(t *testing.T) {
	q := newQueue(2)
	d := []byte("first")
	q.push([][]byte{d})
	copy(d, "later")
	p := make([]byte, 10)
	if n, _, _ := q.pop(p); string(p[:n]) != "first" {
		t.Errorf("got %q", p[:n])
	}
}

// Every datagram wakes a reader, however readers and writers meet.
func TestQueueWakesReaders(t *testing.T) {
	const readers, each = 4, 500
	q := newQueue(readers * each)
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			p := make([]byte, 8)
			for range each {
				for {
					if _, ok, _ := q.pop(p); ok {
						break
					}
					ready := q.wait()
					select {
					case <-ready:
					case <-time.After(5 * time.Second):
						t.Error("a reader sleeps while there is something to read")
					}
					q.done()
				}
			}
		})
	}
	for range readers * each {
		q.push([][]byte{{1}})
	}
	wg.Wait()
}

func TestQueueAllocatesNothing(t *testing.T) {
	q := newQueue(64)
	d := [][]byte{make([]byte, 1200)}
	p := make([]byte, 1500)
	if n := testing.AllocsPerRun(200, func() {
		q.push(d)
		q.push(d)
		q.pop(p)
		q.pop(p)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
