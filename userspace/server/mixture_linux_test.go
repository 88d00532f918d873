// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// BenchmarkDataAndMoves is row 15 of docs/BENCHMARKS.md: how much of its data rate a
// worker keeps while it does validated moves (a NAT's rebinding) as well, so many each
// second of its CPU time. Both are measured, in turns: the worker opens datagrams
// and nothing else, and it opens datagrams with a batch of moves whenever it is
// behind with them. Never two of those without datagrams between: a worker that
// cannot reach the rate of moves shows which one it reached.
func BenchmarkDataAndMoves(b *testing.B) {
	for _, rate := range []int{100_000, 50_000, 10_000} {
		b.Run(fmt.Sprintf("moves=%d/sessions=%d", rate, *moveSessions), func(b *testing.B) {
			benchmarkDataAndMoves(b, rate)
		})
	}
}

const (
	mixtureRounds   = 8  // turns of each kind
	mixtureSessions = 64 // that send, and do not move
	mixtureSize     = 1400
)

func benchmarkDataAndMoves(b *testing.B, rate int) {
	m := newMover(b, *moveSessions, mixtureSessions)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var alone, mixed time.Duration
	moves, datagrams := 0, 0
	b.ResetTimer()
	for range mixtureRounds {
		n := 0
		for ; n*mixtureRounds < b.N; n += mixtureSessions {
			alone += m.data(b)
		}
		before := m.spent.all()
		for done := 0; done < n; done += mixtureSessions {
			mixed += m.data(b)
			if time.Duration(moves) < (mixed+m.spent.all()-before)*time.Duration(rate)/time.Second {
				moves += m.move(b, true)
			}
		}
		mixed += m.spent.all() - before
		datagrams += n
	}
	b.StopTimer()
	if got := m.totals.movesCommitted.Load(); got != uint64(moves) {
		b.Fatalf("%d of %d moves committed", got, moves)
	}
	b.ReportMetric(100*float64(alone)/float64(mixed), "%kept")
	b.ReportMetric(float64(moves)/mixed.Seconds()/1e3, "kmoves/s")
	b.ReportMetric(float64(datagrams)/alone.Seconds()/1e3, "kdatagrams/s")
	b.ReportMetric(0, "ns/op")
}

var mixtureDatagram [mixtureSize]byte

// data brings the server a datagram of each client that does not move, hands it to
// the application, and returns the server's CPU time for that.
func (m *mover) data(b *testing.B) (spent time.Duration) {
	for i := m.movers; i < len(m.all); i++ {
		m.send(&m.all[i], wire.AppendDatagram(m.control[:0], mixtureDatagram[:]))
	}
	m.serve(b, m.reader, &spent)
	for i := m.movers; i < len(m.all); i++ {
		if n := m.read(i); n != 1 {
			b.Fatalf("%d datagrams", n)
		}
	}
	return spent
}
