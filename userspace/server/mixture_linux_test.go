// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// BenchmarkDataAndMoves is row 15 of docs/BENCHMARKS.md: how much of its data rate a
// worker keeps while it does validated moves (a NAT's rebinding) as well, so many each
// second of its CPU time. Both are measured, in turns: the worker opens datagrams
// and nothing else, and it opens datagrams with a batch of moves whenever it is
// behind with them. Never two of those without datagrams between: a worker that
// cannot reach the rate of moves shows which one it reached.
func BenchmarkDataAndMoves(b *testing.B) {
	for _, rate := range []int{100_000, 10_000} {
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
	m, peers := newMover(b, *moveSessions, mixtureSessions)
	movers, crowd := peers[:*moveSessions], newCrowd(peers[*moveSessions:])
	rand.Shuffle(len(movers), func(i, j int) { movers[i], movers[j] = movers[j], movers[i] })
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var alone, mixed time.Duration
	moves, datagrams := 0, 0
	b.ResetTimer()
	for range mixtureRounds {
		n := 0
		for ; n*mixtureRounds < b.N; n += mixtureSessions {
			alone += m.data(b, crowd)
		}
		before := m.busy()
		for done := 0; done < n; done += mixtureSessions {
			mixed += m.data(b, crowd)
			if time.Duration(moves) < (mixed+m.busy()-before)*time.Duration(rate)/time.Second {
				at := moves % len(movers)
				batch := movers[at:min(at+batchSize, len(movers))]
				m.move(b, batch, true)
				moves += len(batch)
			}
		}
		mixed += m.busy() - before
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

// crowd are clients that send, by where they are.
type crowd struct {
	peers  []*peer
	byAddr map[netip.AddrPort]*peer
	buffer [mixtureSize]byte
}

func newCrowd(peers []*peer) *crowd {
	s := &crowd{peers: peers, byAddr: make(map[netip.AddrPort]*peer)}
	for _, p := range peers {
		s.byAddr[p.addr] = p
	}
	return s
}

// data brings the server a datagram of each sender, hands it to the application, and
// returns the server's CPU time for that.
func (m *mover) data(b *testing.B, s *crowd) (spent time.Duration) {
	for _, p := range s.peers {
		if at, ok := p.state.Deadline(); ok && at <= m.now {
			p.state.Tick(m.now, &p.out)
		}
		if err := p.state.Send(m.now, s.buffer[:], &p.out); err != nil {
			b.Fatal(err)
		}
	}
	m.byAddr = s.byAddr
	m.serve(b, s.peers, &spent)
	m.hear()
	for _, p := range s.peers {
		if n, err := p.s.ReceiveDatagram(noWait, s.buffer[:]); err != nil || n != mixtureSize {
			b.Fatalf("a datagram came as %d bytes, %v", n, err)
		}
	}
	return spent
}
