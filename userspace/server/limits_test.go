// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// heap is the live memory in bytes.
func heap() int64 {
	for range 3 { // pools give theirs back in two steps, finalizers in one more
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// THREATS: a validated botnet exhausts state. A million INITs with honest cookies
// from 250,000 networks, at 100,000 a second: memory stays bounded, old sessions
// live, and all of it is gone when the flood is over.
func TestThreatStateExhaustion(t *testing.T) {
	if testing.Short() {
		t.Skip("a million INITs take some seconds")
	}
	inits := 1_000_000
	if testutil.Race {
		inits = 50_000
	}
	srv := listen(t, func(c *Config) { c.Workers, c.TableSlots = 1, 1<<16 })
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")

	honest, _ := newAttempt(t, srv, nil)
	pkt := wire.Init(append([]byte(nil), honest.Packet()...))
	mac1 := srv.identities[0].mac1
	w := srv.workers[0]
	// Its own socket, on which nothing leaves: only the readers' work is looked at.
	r := newReader(w, maps.LaneHandshake, silent{w.conn}, new(counters))
	to := netip.MustParseAddrPort("[2001:db8::1]:7626")
	before := heap()
	goroutines := runtime.NumGoroutine()
	var most int64
	start := srv.clock.now()
	now := start
	for i := 0; i < inits; i += batchSize {
		now = start + time.Duration(i)*10*time.Microsecond
		for k := range r.in {
			from := netip.AddrPortFrom(network6(uint32(i+k)%250_000), 1000)
			binary.BigEndian.PutUint64(pkt[8:], uint64(i+k)) // another handshake id each
			pkt.SetCookie(srv.cookies.Make(srv.clock.unix(now), pkt.HandshakeID(), from, to))
			pkt.SetMAC1(mac1.Sum(pkt))
			m := &r.in[k]
			m.N, m.Remote, m.Local = copy(m.Buf, pkt), from, to
		}
		r.batch(now, r.in)
		if i/batchSize%(1_000_000/batchSize/20) == 0 {
			most = max(most, heap()-before)
			srv.attempts.expire(now)
		}
	}
	var seen uint64
	for reason := range r.counts.packets {
		seen += r.counts.packets[reason].Load()
	}
	t.Logf("at most %d MB more; half-open %d of %d, half-open limit %d, prefix limit %d, busy %d",
		most>>20, srv.attempts.open(), srv.cfg.Limits.HalfOpen, r.counts.packets[HalfOpenLimit].Load(),
		r.counts.packets[PrefixLimit].Load(), r.counts.packets[HandshakeBusy].Load())
	if seen == 0 || r.counts.packets[MAC1].Load()+r.counts.packets[RetrySent].Load()+r.counts.packets[InitMalformed].Load() != 0 {
		t.Fatalf("the flood is not what it should be: %d mac1, %d RETRY", r.counts.packets[MAC1].Load(), r.counts.packets[RetrySent].Load())
	}
	if n := srv.attempts.open(); n > srv.cfg.Limits.HalfOpen {
		t.Errorf("%d half-open", n)
	}
	const bound = 64 << 20
	if most > bound {
		t.Errorf("the flood took %d MB, the bound is %d MB", most>>20, bound>>20)
	}
	talk(t, s, c, "during")
	eventually(t, "the handshake workers are done", func() bool { return len(srv.jobs) == 0 })
	srv.attempts.expire(now + attemptLife + time.Hour)
	if srv.attempts.open() != 0 || len(srv.attempts.of) != 0 || len(srv.attempts.sources.of[0])+len(srv.attempts.sources.of[1]) != 0 {
		t.Errorf("left: %d half-open, %d attempts, %d sources", srv.attempts.open(), len(srv.attempts.of), len(srv.attempts.sources.of[1]))
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines became %d", goroutines, n)
	}
	talk(t, s, c, "after")
}

// A half-open session is small: 65,536 of them, the most there are, stay below
// half a gigabyte. They go when their time is up, and take their slots along.
func TestHalfOpenMemory(t *testing.T) {
	n := 400
	if testutil.Race {
		n = 100 // they must all be done before the first one's time is up
	}
	srv := listen(t, func(c *Config) { c.Workers, c.TableSlots, c.Cookie = 1, 1<<12, CookieNever })
	r := newReader(srv.workers[0], maps.LaneHandshake, silent{srv.workers[0].conn}, new(counters))
	packets := make([][]byte, n)
	for i := range packets {
		init, _ := newAttempt(t, srv, nil)
		packets[i] = init.Packet()
	}
	before := heap()
	for i, pkt := range packets {
		m := &r.in[0]
		m.N, m.Local = copy(m.Buf, pkt), netip.MustParseAddrPort("[2001:db8::1]:7626")
		m.Remote = netip.AddrPortFrom(network6(uint32(i)), 1000)
		r.batch(srv.clock.now(), r.in[:1])
	}
	eventually(t, "all handshakes are done", func() bool { return srv.Stats().Packets[RespAccepted] == uint64(n) })
	each := (heap() - before) / int64(n)
	t.Logf("%d bytes for a half-open session", each)
	if each < 1<<10 || each > 8<<10 {
		t.Errorf("%d bytes for a half-open session", each)
	}
	if int(srv.table.Len()) != n || srv.Stats().HalfOpen != uint64(n) {
		t.Errorf("%d slots, stats %+v", srv.table.Len(), srv.Stats())
	}
	runtime.KeepAlive(packets)
	runtime.KeepAlive(r)
}

// silent is a connection that takes what is sent and drops it.
type silent struct{ netio.Conn }

func (silent) WriteBatch(ms []netio.Message) (int, error) { return len(ms), nil }

// network6 is an address of the n-th IPv6 /64.
func network6(n uint32) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(a[4:], n)
	return netip.AddrFrom16(a)
}
