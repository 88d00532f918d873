// SPDX-License-Identifier: Apache-2.0

package server

import (
	"flag"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
)

var moveSessions = flag.Int("moves.sessions", 1<<15, "how many sessions BenchmarkMoves moves")

// BenchmarkMoves is row 14 of docs/BENCHMARKS.md: all that a server spends on a
// validated move but for its sockets, from the packet that makes a candidate over
// CHALLENGE and RESPONSE to the commit, the PING behind it and its PONG, and the
// timers. Sessions move in a random order, each from one new address to the next:
// by a NAT's doing (rebind), or by their own, which takes new ids on both sides.
// Counted is the CPU time of the server's thread.
func BenchmarkMoves(b *testing.B) {
	for _, rebind := range []bool{true, false} {
		b.Run(fmt.Sprintf("rebind=%v/sessions=%d", rebind, *moveSessions), func(b *testing.B) {
			benchmarkMoves(b, *moveSessions, rebind)
		})
	}
}

// moveEvery is how often a session moves: often enough that it keeps its keys.
const moveEvery = 5 * time.Second

// mover is a fleet of clients that move.
type mover struct {
	*bareServer
	sessions int
	now      session.Time
	byAddr   map[netip.AddrPort]*peer
	answers  []netio.Message
	snd      sender
	due      []*Session
	spent    struct{ candidate, response, pong, timers time.Duration }
}

// newMover opens the sessions and returns their clients, the first of which move.
func newMover(b *testing.B, sessions, more int) (*mover, []*peer) {
	all := sessions + more
	m := &mover{sessions: sessions, bareServer: newBareServer(b, max(maps.DefaultSlots>>4, uint32(1)<<bits.Len(uint(15*all))))}
	m.snd = sender{srv: m.Server, conn: m.workers[0].conn}
	peers := make([]*peer, all)
	for i := range peers {
		peers[i] = m.open(b, i)
	}
	m.now = m.clock.now()
	m.answer = func(msg netio.Message) {
		msg.Buf = slices.Clone(msg.Buf)
		m.answers = append(m.answers, msg)
	}
	return m, peers
}

func benchmarkMoves(b *testing.B, sessions int, rebind bool) {
	m, peers := newMover(b, sessions, 0)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.ReportAllocs()
	b.ResetTimer()
	moves := 0
	for ; moves < b.N; moves += batchSize {
		if moves%sessions == 0 {
			rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		}
		at := moves % sessions
		m.move(b, peers[at:min(at+batchSize, len(peers))], rebind)
	}
	b.StopTimer()
	if got, want := m.totals.movesCommitted.Load(), uint64(moves); got != want {
		b.Fatalf("%d of %d moves committed, %d started, %d refused", got, want, m.totals.movesStarted.Load(), m.totals.movesRefused.Load())
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(moves) }
	b.ReportMetric(each(m.spent.candidate), "ns/candidate")
	b.ReportMetric(each(m.spent.response), "ns/response")
	b.ReportMetric(each(m.spent.pong), "ns/pong")
	b.ReportMetric(each(m.spent.timers), "ns/timers")
	all := m.busy()
	b.ReportMetric(each(all), "ns/move")
	b.ReportMetric(1e6/each(all), "kmoves/s")
	b.ReportMetric(0, "ns/op")
}

// busy is the server's CPU time for moves.
func (m *mover) busy() time.Duration {
	return m.spent.candidate + m.spent.response + m.spent.pong + m.spent.timers
}

// move moves each of the peers once.
func (m *mover) move(b *testing.B, peers []*peer, rebind bool) {
	m.byAddr = make(map[netip.AddrPort]*peer, 2*len(peers))
	for until := m.now + time.Duration(len(peers))*moveEvery/time.Duration(m.sessions); m.now < until; {
		m.now = min(m.now+wheelTick, until)
		before := threadTime(b)
		m.due = m.workers[0].tick(m.now, &m.snd, m.due[:0])
		m.spent.timers += threadTime(b) - before
	}
	m.answers = m.answers[:0] // CHALLENGEs to paths that are gone
	for _, p := range peers {
		m.byAddr[p.addr] = p
		if at, ok := p.state.Deadline(); ok && at <= m.now {
			p.state.Tick(m.now, &p.out)
		}
		p.out.Reset()
		p.addr = netip.AddrPortFrom(p.addr.Addr(), 1024+(p.addr.Port()+1)%60000)
		m.byAddr[p.addr] = p
		var err error
		if rebind {
			err = p.state.Send(m.now, make([]byte, 64), &p.out)
		} else {
			path := p.state.Path()
			path.Socket++
			err = p.state.Move(m.now, path, &p.out)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	m.serve(b, peers, &m.spent.candidate)
	m.hear()
	m.serve(b, peers, &m.spent.response)
	m.hear()
	m.serve(b, peers, &m.spent.pong)
	m.hear()
	for _, p := range peers {
		for buf := make([]byte, 64); ; {
			if _, err := p.s.ReceiveDatagram(noWait, buf); err != nil {
				break
			}
		}
	}
}

// serve brings the server what the peers have to send.
func (m *mover) serve(b *testing.B, peers []*peer, spent *time.Duration) {
	var ms []netio.Message
	for _, p := range peers {
		for _, pkt := range p.out.Packets {
			ms = append(ms, m.message(p, slices.Clone(pkt.Data)))
		}
		p.out.Reset()
	}
	before := threadTime(b)
	m.reader.batch(m.now, ms)
	*spent += threadTime(b) - before
}

// hear brings the peers what the server has sent to where they are now.
func (m *mover) hear() {
	for _, a := range m.answers {
		if p := m.byAddr[a.Remote]; p != nil && p.addr == a.Remote {
			from := p.state.Path()
			from.Remote = benchLocal
			p.state.Receive(m.now, from, a.Buf, &p.out)
		}
	}
	m.answers = m.answers[:0]
}

// threadTime is the CPU time that the calling thread has used.
func threadTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}
