// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"weak"

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

// wayRig is a session whose packets a test brings by a queue that sends, or by a
// socket, in frames of its choice.
type wayRig struct {
	t       *testing.T
	f       *feed
	s       *Session
	q       *sendingQueue
	remove  func() error
	packets [][]byte
}

func newWayRig(t *testing.T) *wayRig {
	t.Helper()
	w := &wayRig{t: t, q: &sendingQueue{memoryQueue: newMemoryQueue(), room: 100}}
	w.f, w.s, w.packets = newFeedOf(t, 1, 100, 40)
	var err error
	if w.remove, err = w.s.srv.AddQueue(w.q); err != nil {
		t.Fatal(err)
	}
	return w
}

// link is that of answers to a neighbour.
func link(neighbour byte) netio.Link {
	return netio.AnswerLink([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, neighbour, 8, 0}, 14)
}

// next takes the client's next packet.
func (w *wayRig) next() []byte {
	w.t.Helper()
	pkt := w.packets[0]
	w.packets = w.packets[1:]
	return pkt
}

// queue brings a packet by the queue and returns when its reader has counted it.
func (w *wayRig) queue(pkt []byte, from netip.AddrPort, l netio.Link, became Reason) {
	w.t.Helper()
	before := w.s.srv.Stats().Packets[became]
	w.q.packets <- netio.Message{Buf: bytes.Clone(pkt), N: len(pkt), Remote: from, Local: w.s.LocalAddr(), Link: l}
	eventually(w.t, "the packet is counted as "+became.String(), func() bool { return w.s.srv.Stats().Packets[became] > before })
}

// bring brings the client's next packet in a frame of a neighbour's, twice for its
// way to be learnt.
func (w *wayRig) bring(from netip.AddrPort, l netio.Link, times int) {
	w.t.Helper()
	for range times {
		w.queue(w.next(), from, l, Delivered)
	}
}

// send has the session send one datagram and returns what left by the queue.
func (w *wayRig) send(what string, want int) []netio.Message {
	w.t.Helper()
	w.q.take() // what the session has sent by itself
	if err := w.s.SendDatagram([]byte("an answer")); err != nil {
		w.t.Fatal(err)
	}
	sent := w.q.take()
	if len(sent) != want {
		w.t.Fatalf("%s: %d packets left by the queue, want %d", what, len(sent), want)
	}
	return sent
}

// sendTo is send where one packet has to leave to a neighbour.
func (w *wayRig) sendTo(what string, neighbour byte) {
	w.t.Helper()
	if m := w.send(what, 1)[0]; m.Link != link(neighbour) || m.Remote != w.f.from || m.Local != w.s.LocalAddr() {
		w.t.Errorf("%s: sent %+v", what, m)
	}
}

// TestWay sends to a session whose packets come by a queue that sends.
func TestWay(t *testing.T) {
	t.Parallel()
	w := newWayRig(t)
	srv := w.s.srv
	w.send("before anything came", 0)
	w.bring(w.f.from, netio.Link{}, 2)
	w.send("the queue shows no frames", 0)
	w.bring(w.f.from, link(7), 1)
	w.send("one packet has come", 0)
	w.bring(w.f.from, link(7), 1)
	w.sendTo("learnt", 7)
	w.bring(w.f.from, link(8), 2)
	w.sendTo("learnt anew", 8)

	// What is not authentic, or comes from elsewhere, teaches nothing.
	forged := bytes.Clone(w.packets[0])
	forged[len(forged)-1]++
	w.queue(forged, w.f.from, link(66), AuthFailed)
	w.sendTo("after a forgery", 8)
	w.bring(netip.AddrPortFrom(w.f.from.Addr(), w.f.from.Port()^1), link(66), 2)
	w.send("where the candidate is", 0) // datagrams follow the client at once, by sockets

	w.bring(w.f.from, link(8), 1) // it is back
	w.sendTo("back again", 8)
	// A train is the sockets'.
	w.q.take()
	if n, err := w.s.SendDatagrams([][]byte{[]byte("one"), []byte("two"), []byte("six")}); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if sent := w.q.take(); len(sent) != 0 {
		t.Errorf("of a train %d packets left by the queue", len(sent))
	}

	srv.ForgetWays()
	w.send("routes have changed", 0)
	w.bring(w.f.from, link(9), 2)
	w.send("and were learnt", 1)
	before := srv.Stats().SentDirect
	room := func(n int) {
		w.q.mu.Lock()
		defer w.q.mu.Unlock()
		w.q.room = n
	}
	room(0)
	w.send("the ring is full", 0)
	if st := srv.Stats(); st.SentDirect != before || st.SendRefused != 0 {
		t.Errorf("%d packets left by a queue without room, %d were refused", st.SentDirect-before, st.SendRefused)
	}
	room(100)
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}
	w.send("the queue has gone", 0)
}

// THREATS: whoever shares the server's Ethernet segment and delivers copies of
// authentic packets in frames of his own gets no answers in place of the gateway.
func TestThreatCopiedFrame(t *testing.T) {
	t.Parallel()
	const gateway, attacker = 7, 66
	w := newWayRig(t)
	held := w.next() // he has kept this one back
	w.bring(w.f.from, link(gateway), 2)
	w.sendTo("before", gateway)

	w.queue(held, w.f.from, link(attacker), Delivered) // authentic and new, but not the newest
	w.send("after the packet that he held back", 0)
	w.queue(held, w.f.from, link(attacker), ReplayDuplicate)
	w.send("after the same once more", 0)
	w.bring(w.f.from, link(gateway), 2)
	w.sendTo("the gateway's again", gateway)

	// He is faster than the gateway with each packet.
	for range 3 {
		pkt := w.next()
		w.queue(pkt, w.f.from, link(attacker), Delivered)
		w.send("his copy has come", 0)
		w.queue(pkt, w.f.from, link(gateway), ReplayDuplicate)
		w.send("and the original", 0)
	}
	// The original may come by a queue without a socket, and so by the stack.
	for range 3 {
		pkt := w.next()
		w.queue(pkt, w.f.from, link(attacker), Delivered)
		w.send("his copy has come", 0)
		w.f.r.batch(w.s.srv.clock.now(), []netio.Message{{Buf: pkt, N: len(pkt), Remote: w.f.from, Local: w.s.LocalAddr()}})
		w.send("and the original, by a socket", 0)
	}
	w.bring(w.f.from, link(gateway), 2)
	w.sendTo("after it all", gateway)
}

// A session that is idle keeps no queue, and none of its memory, that has gone.
func TestQueueIsLetGo(t *testing.T) {
	t.Parallel()
	w := newWayRig(t)
	w.bring(w.f.from, link(7), 2)
	w.sendTo("before", 7)
	queue := weak.Make(w.q)
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}
	w.q, w.remove = nil, nil
	eventually(t, "the queue is collected", func() bool {
		runtime.GC()
		return queue.Value() == nil
	})
	if err := w.s.SendDatagram([]byte("by a socket")); err != nil {
		t.Error(err)
	}
}
