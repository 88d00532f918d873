// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// memoryQueue is a Queue that brings what a test puts into it.
type memoryQueue struct {
	packets chan netio.Message
	done    chan struct{}
	once    sync.Once
	drops   netio.Drops
}

func newMemoryQueue() *memoryQueue {
	return &memoryQueue{packets: make(chan netio.Message, 100), done: make(chan struct{})}
}

func (q *memoryQueue) ReadBatch(ms []netio.Message) (int, error) {
	select {
	case ms[0] = <-q.packets:
		return 1, nil
	case <-q.done:
		return 0, net.ErrClosed
	}
}

func (q *memoryQueue) Drops() netio.Drops { return q.drops }

func (q *memoryQueue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// bring puts a packet of the client's into the queue, as if it came from there.
func (q *memoryQueue) bring(pkt []byte, from, to netip.AddrPort) {
	q.packets <- netio.Message{Buf: pkt, N: len(pkt), Remote: from, Local: to}
}

// TestQueue lets a session's packets come by a queue that comes and goes.
func TestQueue(t *testing.T) {
	t.Parallel()
	f, s, packets := newFeedOf(t, 2, 100, 20)
	srv := s.srv
	before := srv.Stats()

	q := newMemoryQueue()
	q.drops = netio.Drops{NoFrame: 3, RingFull: 1}
	remove, err := srv.AddQueue(q)
	if err != nil {
		t.Fatal(err)
	}
	for _, pkt := range packets[:10] {
		q.bring(pkt, f.from, s.LocalAddr())
		if got := receive(t, s); len(got) != 100 {
			t.Fatalf("a datagram of %d bytes", len(got))
		}
	}
	q.bring([]byte{1, 2, 3}, f.from, s.LocalAddr()) // a queue is trusted no more than a socket
	check := func(when string, queues int) {
		t.Helper()
		eventually(t, "counted "+when, func() bool {
			st := srv.Stats()
			return st.Packets[Delivered]-before.Packets[Delivered] == 10 && st.Packets[UnknownProtocol] == 1 &&
				st.Queues == queues && st.QueueDrops == q.drops
		})
	}
	check("while it is there", 1)
	for range 2 { // a second time does nothing
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		check("after it has gone", 0)
	}

	// Close ends the readers of queues that nobody removed.
	q = newMemoryQueue()
	q.drops = netio.Drops{Malformed: 1}
	if remove, err = srv.AddQueue(q); err != nil {
		t.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	<-q.done
	if err := remove(); err != nil {
		t.Errorf("removed after Close: %v", err)
	}
	if d := srv.Stats().QueueDrops; d != (netio.Drops{NoFrame: 3, RingFull: 1, Malformed: 1}) {
		t.Errorf("drops of all queues: %+v", d)
	}
	if _, err := srv.AddQueue(newMemoryQueue()); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed server takes a queue: %v", err)
	}
}
