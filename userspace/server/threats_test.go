// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Rows of docs/THREATS.md that are judged packet by packet, with a clock of the
// test's own.

// table feeds single packets to a reader and looks at what it answers.
type table struct {
	srv *Server
	r   *reader
	m   netio.Message
}

// newTable reads as the first worker would; its answers go nowhere.
func newTable(srv *Server, from netip.AddrPort) *table {
	r := newReader(srv.workers[0], maps.LaneHandshake, silent{srv.workers[0].conn}, srv.newCounters())
	return &table{srv, r, netio.Message{Buf: make([]byte, wire.MaxPacket), Remote: from, Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), srv.Addr().Port())}}
}

func (b *table) at(from netip.AddrPort) *table {
	b.m.Remote = from
	return b
}

// packet returns what became of a packet that came at now, and the answers.
func (b *table) packet(now time.Duration, pkt []byte) (Reason, []netio.Message) {
	b.m.N = copy(b.m.Buf, pkt)
	b.r.snd.out.Reset()
	b.r.snd.msgs, b.r.answers = b.r.snd.msgs[:0], b.r.answers[:0]
	return b.r.judge(now, &b.m), b.r.snd.msgs
}

// TestThreatCookieReplay uses a cookie again where it must not count: elsewhere, too
// late, and after its key is gone. It counts as none then, so the answer is RETRY.
func TestThreatCookieReplay(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Cookie, c.Workers = CookieAlways, 1 })
	home := netip.MustParseAddrPort("192.0.2.1:1000")
	issued := srv.clock.now()
	init, _ := newAttempt(t, srv, nil)
	_, answers := newTable(srv, home).packet(issued, init.Packet())
	if len(answers) != 1 {
		t.Fatalf("%d answers to INIT", len(answers))
	}
	_, cookie, err := wire.ParseRetry(answers[0].Buf)
	if err != nil {
		t.Fatal(err)
	}
	init.SetCookie(cookie)
	other, _ := newAttempt(t, srv, nil)
	other.SetCookie(cookie)
	for _, tc := range []struct {
		name  string
		from  string
		after time.Duration
		init  *handshake.Initiator
		good  bool
	}{
		{"another port", "192.0.2.1:1001", 0, init, false},
		{"another address", "192.0.2.2:1000", 0, init, false},
		{"another family", "[2001:db8::1]:1000", 0, init, false},
		{"another handshake", "192.0.2.1:1000", 0, other, false},
		{"9 s old", "192.0.2.1:1000", 9 * time.Second, init, true},
		{"11 s old", "192.0.2.1:1000", 11 * time.Second, init, false},
		{"one epoch later", "192.0.2.1:1000", time.Minute, init, false},
		{"two epochs later", "192.0.2.1:1000", 2 * time.Minute, init, false},
		{"when the key's number comes again", "192.0.2.1:1000", 256 * time.Minute, init, false},
	} {
		now := issued + tc.after
		reason, answers := newTable(srv, netip.MustParseAddrPort(tc.from)).packet(now, tc.init.Packet())
		retried := reason == RetrySent && len(answers) == 1 && answers[0].Buf[0] == wire.TypeRetry
		if retried == tc.good {
			t.Errorf("%s: %v", tc.name, reason)
		}
	}
	eventually(t, "the cookie that was good has opened a handshake", func() bool { return srv.Stats().Packets[RespAccepted] == 1 })
}

// TestThreatAmplification answers packets of unproven senders, whole ones, cut ones
// and changed ones: never more bytes than came, and only to where they came from.
func TestThreatAmplification(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Workers, c.Limits.UncookiedRate = 1, 1 })
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	init, _ := newAttempt(t, srv, nil)
	version := bytes.Clone(init.Packet())
	version[7] = 9
	seeds := [][]byte{init.Packet(), version, c.lastPacket(), dataOn(goneID(t, srv), 100), dataOn(s.Info().LocalID, 60), dataOn(wire.ID{1}, 100)}
	rng := rand.New(rand.NewPCG(1, 1))
	n := 200_000
	if testing.Short() {
		n = 20_000
	}
	answered, b := map[Reason]int{}, newTable(srv, netip.AddrPort{})
	for i := range n {
		from := netip.AddrPortFrom(network6(rng.Uint32N(1000)), uint16(1+rng.IntN(3)))
		pkt := bytes.Clone(seeds[rng.IntN(len(seeds))])
		switch rng.IntN(4) {
		case 0:
			pkt = pkt[:rng.IntN(len(pkt)+1)]
		case 1:
			pkt[rng.IntN(len(pkt))] ^= 1 << rng.IntN(8)
		case 2:
			pkt = append(pkt, make([]byte, rng.IntN(100))...)
		}
		came := len(pkt)
		reason, answers := b.at(from).packet(srv.clock.now()+time.Duration(i)*time.Millisecond, pkt)
		sent := 0
		for _, a := range answers {
			sent += len(a.Buf)
			if a.Remote != from {
				t.Fatalf("%v: an answer to %v went to %v", reason, from, a.Remote)
			}
		}
		if sent > 0 {
			answered[reason]++
		}
		if sent > came && sent > 0 {
			t.Fatalf("%v: %d bytes for %d", reason, sent, came)
		}
	}
	for _, reason := range []Reason{RetrySent, VersionsSent, ResetSent} {
		if answered[reason] == 0 {
			t.Errorf("nothing was answered by %v: %v", reason, answered)
		}
	}
	talk(t, s, c, "after")
}

// stepped is the instant t as it would be known had the wall clock since been set
// forward by d: the wall time moves, the monotonic reading does not. Package time
// documents both readings, but has no function for this.
func stepped(t *testing.T, at time.Time, d time.Duration) time.Time {
	t.Helper()
	// time.Time begins with wall: bit 63 says that there is a monotonic reading, and
	// then bits 30 to 62 are the seconds.
	was := at
	*(*uint64)(unsafe.Pointer(&at)) += uint64(-d/time.Second) << 30
	if at.Unix() != was.Unix()-int64(d/time.Second) || at.Sub(was) != 0 {
		t.Fatalf("package time keeps its readings otherwise now: %v became %v", was, at)
	}
	return at
}

// TestThreatWallClock steps the wall clock of a live server by an hour, either way:
// its time, its cookies and its sessions do not notice. That nothing else looks at
// the wall clock is TestWallClockIsReadOnce's, in internal/layout.
func TestThreatWallClock(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		c := newClock()
		moved := c
		moved.start = stepped(t, c.start, step)
		before := c.now()
		now := moved.now()
		if now < before || now > c.now() {
			t.Errorf("stepped by %v, %v became %v", step, before, now)
		}
		if moved.unix(now) != c.unix(now) {
			t.Errorf("stepped by %v, cookies of %d read %d", step, c.unix(now), moved.unix(now))
		}
	}
}
