// SPDX-License-Identifier: Apache-2.0

package server

import (
	"flag"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/hugepages"
	"github.com/xdp-roam/xdp-roam/maps"
)

var (
	moveSessions = flag.Int("moves.sessions", 1<<15, "how many sessions BenchmarkMoves and BenchmarkDataAndMoves move")
	moveRuns     = flag.Int("moves.runs", 1, "how many times they measure, with the same sessions")
)

// BenchmarkMoves is row 14 of docs/BENCHMARKS.md: all that a server spends on a
// validated move but for its sockets, from the packet that makes a candidate over
// CHALLENGE and RESPONSE to the commit, the PING behind it and its PONG, and the
// timers. Sessions move in a random order, each from one new address to the next:
// by a NAT's doing (rebind), or by their own, which takes new ids on both sides.
//
// Counted is the CPU time of the server's thread, and its share of the garbage
// collector's. Memory is on huge pages, as the janitor puts it in the first minute. The clients make their packets outside of the counted time. What the
// server sends costs it a copy more than it would elsewhere.
func BenchmarkMoves(b *testing.B) {
	m := newMover(b, *moveSessions, 0)
	m.pages.Finish()
	gc := collectorPerByte(b, m)
	for _, rebind := range []bool{true, false} {
		warm := false
		for range *moveRuns {
			b.Run(fmt.Sprintf("rebind=%v/sessions=%d", rebind, m.movers), func(b *testing.B) {
				m.benchmarkMoves(b, rebind, gc, !warm)
				warm = true
			})
		}
	}
}

// moveEvery is how often a session moves: as a million do at the rate that is the goal of
// a rebinding, and often enough that it keeps its keys.
const moveEvery = 3300 * time.Millisecond

// warmUp is how long sessions move before it counts: until as many ids are retired as
// there are new ones.
const warmUp = 1300 * time.Millisecond

// mover is a fleet of clients, the first of which move.
type mover struct {
	*puppets
	elsewhere *reader // of the candidate lane
	movers    int
	committed uint64   // moves
	order     []uint32 // of the moves
	next      int
	snd       sender
	due       []*Session
	packets   struct{ in, out int } // of the server
	spent     spent
	pages     hugepages.Collapser // the janitor's, who is not at work
	beside    *neighbour          // another worker, if it is to be at work meanwhile
	datagram  [64]byte
}

// newMover opens the sessions of those that move and of more.
func newMover(b testing.TB, movers, more int) *mover {
	slots := max(maps.DefaultSlots>>4, uint32(1)<<bits.Len(uint(6*(movers+more))))
	m := &mover{movers: movers, puppets: openPuppets(b, newBareServer(b, slots), movers+more)}
	m.snd = sender{srv: m.Server, conn: m.workers[0].conn}
	m.elsewhere = newReader(m.workers[0], maps.LaneCandidate, m.workers[0].conn, m.newCounters())
	m.order = make([]uint32, movers)
	for i, n := range rand.Perm(movers) { // the hardware cannot guess it; each time the same, so that no session waits for longer
		m.order[i] = uint32(n)
	}
	return m
}

func (m *mover) benchmarkMoves(b *testing.B, rebind bool, gcPerByte float64, warm bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if warm {
		for until := m.now + warmUp; m.now < until; {
			m.move(b, rebind)
		}
	}
	m.pages.Finish()
	m.spent = spent{}
	b.ResetTimer()
	moves := 0
	for moves < b.N {
		moves += m.move(b, rebind)
	}
	b.StopTimer()
	m.check(b)
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(moves) }
	b.ReportMetric(each(m.spent.candidate), "ns/candidate")
	b.ReportMetric(each(m.spent.response), "ns/response")
	b.ReportMetric(each(m.spent.pong), "ns/pong")
	b.ReportMetric(each(m.spent.timers), "ns/timers")
	collected := time.Duration(float64(m.spent.bytes) * gcPerByte)
	b.ReportMetric(each(collected), "ns/gc")
	b.ReportMetric(float64(m.spent.bytes)/float64(moves), "B/move")
	b.ReportMetric(float64(m.spent.objects)/float64(moves), "allocs/move")
	all := m.spent.all() + collected
	b.ReportMetric(each(all), "ns/move")
	b.ReportMetric(1e6/each(all), "kmoves/s")
	b.ReportMetric(0, "ns/op")
}

// check finds out whether each move was committed.
func (m *mover) check(t testing.TB) {
	if got := m.totals.movesCommitted.Load(); got != m.committed {
		t.Fatalf("%d of %d moves committed, %d started, %d refused", got, m.committed, m.totals.movesStarted.Load(), m.totals.movesRefused.Load())
	}
}

// spent is what moves have cost the server.
type spent struct {
	candidate, response, pong, timers time.Duration
	bytes, objects                    uint64 // allocated
}

// all is the server's CPU time.
func (s *spent) all() time.Duration { return s.candidate + s.response + s.pong + s.timers }

// move moves the clients of a batch, and returns how many.
func (m *mover) move(t testing.TB, rebind bool) int { return m.moveSome(t, rebind, batchSize) }

// moveSome moves the next clients, at most n, and returns how many.
func (m *mover) moveSome(t testing.TB, rebind bool, n int) int {
	batch := m.order[m.next:min(m.next+n, len(m.order))]
	m.next = (m.next + len(batch)) % len(m.order)
	m.pass(t, time.Duration(len(batch))*moveEvery/time.Duration(m.movers))
	for _, i := range batch {
		if c := &m.all[i]; rebind {
			m.rebind(c, m.datagram[:])
		} else {
			m.puppets.move(c)
		}
	}
	m.serve(t, m.elsewhere, &m.spent.candidate)
	m.serve(t, m.elsewhere, &m.spent.response)
	m.serve(t, m.reader, &m.spent.pong)
	for _, i := range batch {
		if n := m.read(int(i)); rebind && n != 1 {
			t.Fatalf("%d datagrams", n)
		}
	}
	m.committed += uint64(len(batch))
	return len(batch)
}

// pass lets time pass.
func (m *mover) pass(t testing.TB, d time.Duration) {
	for until := m.now + d; m.now < until; {
		m.now = min(m.now+wheelTick, until)
		m.account(t, &m.spent.timers, func() {
			m.due = m.workers[0].tick(m.now, &m.snd, m.due[:0])
		})
	}
	m.packets.out += len(m.answers)
	m.hear() // CHALLENGEs to paths that are gone, and what is sent again
}

// serve brings the server what the clients have to send, and them its answers.
func (m *mover) serve(t testing.TB, r *reader, spent *time.Duration) {
	ms := m.take()
	m.packets.in += len(ms)
	m.account(t, spent, func() { r.batch(m.now, ms) })
	m.packets.out += len(m.answers)
	m.hear()
}

// account adds what f costs the server.
func (m *mover) account(t testing.TB, spent *time.Duration, f func()) {
	bytes, objects := allocated()
	server := func() {
		before := threadTime(t)
		f()
		*spent += threadTime(t) - before
	}
	if m.beside == nil {
		server()
	} else {
		m.beside.during(server)
	}
	b, o := allocated()
	m.spent.bytes += b - bytes
	m.spent.objects += o - objects
}

// threadTime is the CPU time that the calling thread has used.
func threadTime(t testing.TB) time.Duration { return cpuTime(t, unix.CLOCK_THREAD_CPUTIME_ID) }

func cpuTime(t testing.TB, clock int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

var allocations = []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/allocs:objects"}}

// allocated is what the process has allocated.
func allocated() (bytes, objects uint64) {
	metrics.Read(allocations)
	return allocations[0].Value.Uint64(), allocations[1].Value.Uint64()
}

// collectorPerByte is what the garbage collector takes, in nanoseconds of CPU, for each
// byte that the server allocates: a whole collection's over the bytes that come between two,
// which are as many as are in use (GOGC=100) without the clients'.
func collectorPerByte(t testing.TB, m *mover) float64 {
	runtime.GC() // ends the sweep of the one before
	before := processTime(t)
	runtime.GC()
	spent := processTime(t) - before
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return float64(spent) / (float64(ms.HeapAlloc) - float64(uintptr(len(m.all))*unsafe.Sizeof(m.all[0])))
}

// Puppets move as clients do: every move is committed and ids do not run out. Each
// rebinding is as many packets as the protocol says: a datagram, RESPONSE and PONG in;
// CHALLENGEs to both paths, a PING, and the old path asked again three times out.
func TestPuppets(t *testing.T) {
	m := newMover(t, 2*batchSize, 0)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	moves := 0
	for _, rebind := range []bool{false, true, true} {
		m.packets.in, m.packets.out = 0, 0
		before := moves
		for range 20 {
			moves += m.move(t, rebind)
		}
		if got := m.totals.movesCommitted.Load(); got != uint64(moves) {
			t.Fatalf("%d of %d moves committed", got, moves)
		}
		in, out := float64(m.packets.in)/float64(moves-before), float64(m.packets.out)/float64(moves-before)
		t.Logf("rebind %v: %.2f packets in, %.2f out", rebind, in, out)
		if rebind && (in != 3 || out < 5.5 || out > 6.5) {
			t.Errorf("a rebinding took %v packets in and %v out", in, out)
		}
	}
	for i := range m.all {
		if n := m.to[i].state.Info(); n.SpareLocalIDs != 2 || n.SpareRemoteIDs != 2 {
			t.Fatalf("%d and %d spare ids", n.SpareLocalIDs, n.SpareRemoteIDs)
		}
	}
}
