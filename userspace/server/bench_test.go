// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// sink is a socket that hands what is written to a function.
type sink func(netio.Message)

func (s sink) WriteBatch(ms []netio.Message) (int, error) {
	for _, m := range ms {
		s(m)
	}
	return len(ms), nil
}
func (sink) ReadBatch([]netio.Message) (int, error) { return 0, net.ErrClosed }
func (sink) LocalAddr() netip.AddrPort              { return benchLocal }
func (sink) SetReadDeadline(time.Time) error        { return nil }
func (sink) Dropped() uint64                        { return 0 }
func (sink) SyscallConn() (syscall.RawConn, error)  { return nil, net.ErrClosed }
func (sink) Close() error                           { return nil }

var benchLocal = netip.MustParseAddrPort("198.51.100.7:7626")

// noWait is for reads of what is there.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// bareServer is a server without sockets: a test hands its reader the packets
// and gets the answers.
type bareServer struct {
	*Server
	reader *reader
	answer func(netio.Message)
}

func newBareServer(t testing.TB, slots uint32) *bareServer {
	t.Helper()
	cfg, err := Config{
		Static: handshake.NewPrivateKey(), Workers: 1, TableSlots: slots,
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	b := &bareServer{Server: newServer(cfg), answer: func(netio.Message) {}}
	t.Cleanup(b.journal.close)
	if err := b.openTable(); err != nil {
		t.Fatal(err)
	}
	conn := sink(func(m netio.Message) { b.answer(m) })
	w := &worker{srv: b.Server, wheel: newWheel(b.clock.now()), conn: conn, counts: b.newCounters()}
	b.workers = []*worker{w}
	b.reader = newReader(w, maps.LaneMain, conn, b.newCounters())
	return b
}

// peer is a client of a bareServer.
type peer struct {
	state *session.Session // the client's
	addr  netip.AddrPort
	s     *Session
	out   session.Output
}

// open makes a session and its client, from an address of its own, and has them
// speak until both are quiet.
func (b *bareServer) open(t testing.TB, n int) *peer {
	t.Helper()
	p := &peer{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 40000)}
	var key handshake.PublicKey
	rand.Read(key[:])
	s, first, err := b.newSession(b.workers[0], key, "", 7)
	if err != nil {
		t.Fatal(err)
	}
	p.s = s
	cc := session.Config{
		Role: session.Client, IDs: randomIDs{}, NoGrease: true, Path: session.Path{Remote: benchLocal},
		Remote: []session.RemoteID{session.RemoteID(first)}, MaxDatagram: 9000, PeerMaxDatagram: 9000,
	}
	rand.Read(cc.C2S[:])
	rand.Read(cc.S2C[:])
	sc := session.Config{
		C2S: cc.C2S, S2C: cc.S2C, Local: []session.LocalID{first}, MaxDatagram: 9000, PeerMaxDatagram: 9000,
		Path: session.Path{Remote: p.addr, Local: benchLocal},
	}
	for seq := range uint32(3) {
		id, reset, _ := randomIDs{}.Issue()
		cc.Local = append(cc.Local, session.LocalID{Seq: seq, ID: id, Reset: reset})
		sc.Remote = append(sc.Remote, session.RemoteID{Seq: seq, ID: id, Reset: reset})
	}
	if p.state, err = session.New(cc, 0); err != nil {
		t.Fatal(err)
	}
	s.told = b.addrs.Load()
	if err := s.start(sc); err != nil {
		t.Fatal(err)
	}
	b.answer = func(m netio.Message) {
		p.state.Receive(time.Millisecond, session.Path{Remote: benchLocal}, slices.Clone(m.Buf), &p.out)
	}
	speak := func() {
		for range 10 {
			sent := p.out.Packets
			p.out.Packets = nil
			for _, pkt := range sent {
				b.reader.batch(b.clock.now(), []netio.Message{b.message(p, pkt.Data)})
			}
		}
	}
	p.state.Tick(time.Millisecond, &p.out)
	speak()
	for range 4 { // by parts, until the path MTU is found
		if err := p.state.Send(time.Millisecond, make([]byte, 1400), &p.out); err != nil {
			t.Fatal(err)
		}
		speak()
	}
	if got := p.state.Info().MTU; got < 1472 {
		t.Fatalf("path MTU %d", got)
	}
	for buf := make([]byte, 1400); ; {
		if _, err := s.ReceiveDatagram(noWait, buf); err != nil {
			break
		}
	}
	b.answer = func(netio.Message) {}
	p.out.Reset()
	select {
	case <-b.accepted:
	default:
		t.Fatal("the session was not opened")
	}
	return p
}

// message is a packet as it comes from a socket.
func (b *bareServer) message(p *peer, packet []byte) netio.Message {
	return netio.Message{Buf: packet, N: len(packet), Remote: p.addr, Local: benchLocal}
}

// BenchmarkReceive is row 10 of docs/BENCHMARKS.md: what a worker spends on an
// authentic datagram, from the batch that a socket read to the session's inbox,
// against a bare Open of as many bytes, in turns. Sessions follow each other in
// runs of so many packets. Bare keys are as many as there are sessions.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{64, 1400} {
		for _, load := range []struct{ sessions, run int }{{1, 64}, {64, 8}, {64, 1}, {1 << 14, 1}} {
			b.Run(fmt.Sprintf("size=%d/sessions=%d/run=%d/", size, load.sessions, load.run), func(b *testing.B) {
				benchmarkReceive(b, size, load.sessions, load.run)
			})
		}
	}
}

func benchmarkReceive(b *testing.B, size, sessions, run int) {
	srv := newBareServer(b, uint32(max(maps.DefaultSlots>>4, 8*sessions)))
	peers := make([]*peer, sessions)
	type pair struct{ seal, open cipher.AEAD }
	bare := make([]pair, sessions)
	for i := range peers {
		peers[i] = srv.open(b, i)
		var key [32]byte
		rand.Read(key[:])
		bare[i] = pair{newGCM(b, key[:]), newGCM(b, key[:])}
	}
	order := make([]int, sessions)
	for i := range order {
		order[i] = i
	}
	if sessions > batchSize {
		for i := range order { // a random order, so that the hardware cannot guess it
			var r [4]byte
			rand.Read(r[:])
			j := int(uint(r[0])|uint(r[1])<<8|uint(r[2])<<16) % (i + 1)
			order[i], order[j] = order[j], order[i]
		}
	}
	datagram := make([]byte, size)
	ms := make([]netio.Message, batchSize)
	packets := make([][]byte, batchSize)
	for i := range packets {
		packets[i] = make([]byte, 0, wire.MaxPacket)
	}
	var nonce [12]byte
	read := make([]byte, 9000)
	var ours, theirs []time.Duration
	next, delivered := 0, 0
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batchSize {
		now := srv.clock.now()
		for i := range ms {
			p := peers[order[(next+i)/run%sessions]]
			if err := p.state.Send(time.Millisecond, datagram, &p.out); err != nil {
				b.Fatal(err)
			}
			packets[i] = append(packets[i][:0], p.out.Packets[0].Data...)
			p.out.Reset()
			ms[i] = srv.message(p, packets[i])
		}
		t := time.Now()
		srv.reader.batch(now, ms)
		ours = append(ours, time.Since(t))
		for i := range ms {
			p := peers[order[(next+i)/run%sessions]]
			for {
				if _, err := p.s.ReceiveDatagram(noWait, read); err != nil {
					break
				}
				delivered++
			}
		}
		for i := range packets {
			k := bare[order[(next+i)/run%sessions]].seal
			head := packets[i][:wire.HeaderLen]
			plain := packets[i][wire.HeaderLen : wire.HeaderLen+1+size]
			k.Seal(plain[:0], nonce[:], plain, head)
		}
		t = time.Now()
		for i := range packets {
			k := bare[order[(next+i)/run%sessions]].open
			body := packets[i][wire.HeaderLen:]
			if _, err := k.Open(body[:0], nonce[:], body, packets[i][:wire.HeaderLen]); err != nil {
				b.Fatal(err)
			}
		}
		theirs = append(theirs, time.Since(t))
		next += batchSize
	}
	b.StopTimer()
	if want := next; delivered != want {
		b.Fatalf("%d of %d datagrams came", delivered, want)
	}
	each := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Nanoseconds()) / batchSize
	}
	b.ReportMetric(each(ours), "ns/packet")
	b.ReportMetric(each(theirs), "ns/open")
	b.ReportMetric(each(ours)-each(theirs), "ns/over")
	b.ReportMetric(each(ours)/each(theirs), "x")
	b.ReportMetric(0, "ns/op")
}

func newGCM(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}
