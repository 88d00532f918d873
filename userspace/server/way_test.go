// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// sendingQueue also sends: it keeps what it is given, up to room.
type sendingQueue struct {
	*memoryQueue
	mu   sync.Mutex
	sent []netio.Message
	room int
}

func (q *sendingQueue) WriteBatch(ms []netio.Message) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(ms), q.room)
	for _, m := range ms[:n] {
		m.Buf = bytes.Clone(m.Buf)
		q.sent = append(q.sent, m)
	}
	return n
}

func (q *sendingQueue) take() []netio.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := q.sent
	q.sent = nil
	return sent
}

// TestWay sends to a session whose packets come by a queue that sends.
func TestWay(t *testing.T) {
	t.Parallel()
	f, s, packets := newFeedOf(t, 1, 100, 20)
	srv := s.srv
	q := &sendingQueue{memoryQueue: newMemoryQueue(), room: 100}
	remove, err := srv.AddQueue(q)
	if err != nil {
		t.Fatal(err)
	}
	link := func(last byte) netio.Link {
		return netio.AnswerLink([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, last, 8, 0}, 14)
	}
	bring := func(from netip.AddrPort, l netio.Link) {
		t.Helper()
		q.packets <- netio.Message{Buf: packets[0], N: len(packets[0]), Remote: from, Local: s.LocalAddr(), Link: l}
		packets = packets[1:]
		receive(t, s)
		s.mu.Lock()
		//lint:ignore SA2001 once it is locked, the reader is done with it
		s.mu.Unlock()
	}
	send := func(what string, want int) []netio.Message {
		t.Helper()
		q.take() // what the session has sent by itself
		if err := s.SendDatagram([]byte("an answer")); err != nil {
			t.Fatal(err)
		}
		sent := q.take()
		if len(sent) != want {
			t.Fatalf("%s: %d packets left by the queue, want %d", what, len(sent), want)
		}
		return sent
	}
	send("before anything came", 0)
	bring(f.from, netio.Link{})
	send("the queue shows no frames", 0)
	bring(f.from, link(7))
	if m := send("learnt", 1)[0]; m.Link != link(7) || m.Remote != f.from || m.Local != s.LocalAddr() {
		t.Errorf("sent %+v", m)
	}
	bring(f.from, link(8))
	if m := send("learnt anew", 1)[0]; m.Link != link(8) {
		t.Errorf("sent %+v", m)
	}

	// What is not authentic, or comes from elsewhere, teaches nothing.
	forged := bytes.Clone(packets[0])
	forged[len(forged)-1]++
	q.packets <- netio.Message{Buf: forged, N: len(forged), Remote: f.from, Local: s.LocalAddr(), Link: link(66)}
	count(t, srv, AuthFailed, 1)
	if m := send("after a forgery", 1)[0]; m.Link != link(8) {
		t.Errorf("a forgery's frame is answered: %+v", m)
	}
	bring(netip.AddrPortFrom(f.from.Addr(), f.from.Port()^1), link(66))
	send("where the candidate is", 0) // datagrams follow the client at once, by sockets

	bring(f.from, link(8)) // it is back
	send("back again", 1)
	// A train is the sockets'.
	q.take()
	if n, err := s.SendDatagrams([][]byte{[]byte("one"), []byte("two"), []byte("six")}); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if sent := q.take(); len(sent) != 0 {
		t.Errorf("of a train %d packets left by the queue", len(sent))
	}

	srv.ForgetWays()
	send("routes have changed", 0)
	bring(f.from, link(9))
	send("and were learnt", 1)
	before := srv.Stats().SentDirect
	q.mu.Lock()
	q.room = 0
	q.mu.Unlock()
	send("the ring is full", 0)
	if st := srv.Stats(); st.SentDirect != before || st.SendRefused != 0 {
		t.Errorf("%d packets left by a queue without room, %d were refused", st.SentDirect-before, st.SendRefused)
	}
	q.mu.Lock()
	q.room = 100
	q.mu.Unlock()
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	send("the queue has gone", 0)
}
