// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// BenchmarkDataBesideMoves stands beside row 15 of docs/BENCHMARKS.md: how much of its
// data rate a worker keeps while another worker of the same server does nothing but
// moves (a NAT's rebinding), each on a CPU of its own. What it loses is what the two
// share: caches, the table, counters, what a collection asks of every thread.
//
// Both are given their packets beforehand, and only what the worker does while the other
// is at its own is counted: the clients' part takes CPUs as well, which a server's do not
// know of.
func BenchmarkDataBesideMoves(b *testing.B) {
	if runtime.GOMAXPROCS(0) < 2 {
		b.Skip("it takes a CPU for each of two workers")
	}
	b.Run(fmt.Sprintf("sessions=%d", *moveSessions), func(b *testing.B) {
		m := newMover(b, *moveSessions, mixtureSessions)
		n := newNeighbour(b, m)
		defer n.end()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		moves := 0
		for round := 0; moves < b.N || n.beside.datagrams < mixtureSessions; round++ {
			for turn := range 2 {
				n.prepare()
				if (round+turn)%2 == 0 {
					n.alone()
					continue
				}
				m.beside = n
				moves += m.moveSome(b, true, besideMoves)
				m.beside = nil
			}
		}
		m.check(b)
		b.ReportMetric(100*n.apart.each()/n.beside.each(), "%kept")
		b.ReportMetric(float64(m.committed)/m.spent.all().Seconds()/1e3, "kmoves/s")
		b.ReportMetric(1e6/n.apart.each(), "kdatagrams/s")
		b.ReportMetric(0, "ns/op")
	})
}

const (
	besideMoves = 4 * batchSize // at a time
	besideData  = 48            // datagrams of each session that are ready for that time
)

// neighbour is a worker that opens datagrams of the sessions that do not move.
type neighbour struct {
	tb     testing.TB
	m      *mover
	reader *reader
	ready  []netio.Message // not opened yet
	memory []byte

	begin, done   chan struct{}
	stop          atomic.Bool // the mover is not at work, or no longer
	apart, beside opened
}

// opened is how many datagrams were, and the worker's CPU time for that.
type opened struct {
	datagrams int
	spent     time.Duration
}

// each is nanoseconds for each datagram.
func (o opened) each() float64 { return float64(o.spent) / float64(o.datagrams) }

func newNeighbour(tb testing.TB, m *mover) *neighbour {
	conn := sink(func(netio.Message) {}) // it has nothing to send
	w := &worker{srv: m.Server, index: 1, wheel: newWheel(m.now), conn: conn, counts: m.newCounters()}
	m.workers = append(m.workers, w)
	for _, s := range m.to[m.movers:] {
		s.mu.Lock()
		s.hand(m.now, w)
		s.mu.Unlock()
	}
	n := &neighbour{
		tb: tb, m: m, reader: newReader(w, maps.LaneMain, conn, m.newCounters()), begin: make(chan struct{}), done: make(chan struct{}),
		memory: make([]byte, 0, besideData*mixtureSessions*(wire.Overhead+1+mixtureSize)),
	}
	go n.work()
	return n
}

func (n *neighbour) end() { close(n.begin) }

// prepare makes the datagrams that are opened next.
func (n *neighbour) prepare() {
	n.ready, n.memory = n.ready[:0], n.memory[:0]
	for range besideData {
		for i := n.m.movers; i < len(n.m.all); i++ {
			n.m.send(&n.m.all[i], wire.AppendDatagram(n.m.control[:0], mixtureDatagram[:]))
		}
		for _, msg := range n.m.take() { // whose memory is the mover's
			from := len(n.memory)
			n.memory = append(n.memory, msg.Data()...)
			msg.Buf = n.memory[from:len(n.memory):len(n.memory)]
			n.ready = append(n.ready, msg)
		}
	}
	n.m.hear()
}

// work opens datagrams whenever it is told to.
func (n *neighbour) work() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range n.begin {
		for len(n.ready) > 0 && !n.stop.Load() {
			batch := n.ready[:mixtureSessions]
			n.ready = n.ready[mixtureSessions:]
			before := threadTime(n.tb)
			n.reader.batch(n.m.now, batch)
			spent := threadTime(n.tb) - before
			if !n.stop.Load() { // the mover was at work all the while
				n.beside.spent += spent
				n.beside.datagrams += len(batch)
			}
			n.read()
		}
		n.done <- struct{}{}
	}
}

// read hands the application what has come.
func (n *neighbour) read() {
	for i := n.m.movers; i < len(n.m.all); i++ {
		n.m.read(i)
	}
}

// alone opens what is ready while the mover waits.
func (n *neighbour) alone() {
	n.stop.Store(false)
	was := n.beside
	n.begin <- struct{}{}
	<-n.done
	n.apart.spent += n.beside.spent - was.spent
	n.apart.datagrams += n.beside.datagrams - was.datagrams
	n.beside = was
}

// during has the worker open datagrams while f runs.
func (n *neighbour) during(f func()) {
	n.stop.Store(false)
	n.begin <- struct{}{}
	f()
	n.stop.Store(true)
	<-n.done
}
