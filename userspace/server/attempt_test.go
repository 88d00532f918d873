// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestAttempts(t *testing.T) {
	limits := Limits{PrefixRate: 1, PrefixBurst: 3, PrefixHalfOpen: 2, HalfOpen: 4}.withDefaults().shareHalfOpen(1000, CookieNever)
	table := newAttempts(limits)
	from := netip.MustParseAddrPort("192.0.2.1:1000")
	src := source{prefix: makePrefix(from.Addr(), handshakePrefixBits)}
	key := func(n byte) attemptKey { return attemptKey{wire.ID{n}, from} }
	e := [32]byte{1}

	a, reason := table.begin(0, key(1), e, src)
	if a == nil || reason != 0 {
		t.Fatalf("the first INIT: %v", reason)
	}
	if _, reason := table.recall(0, key(1), e); reason != InitPending {
		t.Errorf("a repeat before the answer: %v", reason)
	}
	if !table.answered(a, []byte("resp"), &Session{}) {
		t.Error("the attempt is gone before its time")
	}
	if resp, reason := table.recall(9*time.Second, key(1), e); string(resp) != "resp" || reason != RespRepeated {
		t.Errorf("a repeat: %q, %v", resp, reason)
	}
	if resp, reason := table.recall(0, key(1), [32]byte{2}); resp != nil || reason != InitConflict {
		t.Errorf("another e: %q, %v", resp, reason)
	}
	elsewhere := attemptKey{wire.ID{1}, netip.MustParseAddrPort("192.0.2.1:1001")}
	if resp, reason := table.recall(0, elsewhere, e); resp != nil || reason != 0 {
		t.Errorf("the same INIT from elsewhere: %q, %v", resp, reason)
	}

	// Half-open sessions of the prefix: two at a time.
	b, _ := table.begin(0, key(2), e, src)
	if _, reason := table.begin(0, key(3), e, src); reason != PrefixLimit {
		t.Errorf("a third half-open one: %v", reason)
	}
	table.confirmed(b)
	if _, reason := table.begin(0, key(3), e, src); reason != 0 {
		t.Errorf("after one was confirmed: %v", reason)
	}
	// The rate of the prefix: the burst of three is used up.
	table.confirmed(a)
	if _, reason := table.begin(0, key(4), e, src); reason != PrefixLimit {
		t.Errorf("beyond the burst: %v", reason)
	}
	// Proven ones of the same prefix are another matter.
	proven := source{prefix: src.prefix, proven: true}
	for n := byte(10); n < 12; n++ {
		if _, reason := table.begin(0, key(n), e, proven); reason != 0 {
			t.Errorf("proven: %v", reason)
		}
	}
	// And so is another network, until the table is full.
	other := source{prefix: makePrefix(netip.MustParseAddr("2001:db8::1"), handshakePrefixBits)}
	if _, reason := table.begin(0, key(20), e, other); reason != 0 {
		t.Errorf("another network: %v", reason)
	}
	if _, reason := table.begin(0, key(21), e, other); reason != HalfOpenLimit {
		t.Errorf("the fifth half-open one: %v", reason)
	}

	if over := table.expire(attemptLife - 1); len(over) != 0 || table.open() != 4 {
		t.Errorf("before its time: %d over, %d open", len(over), table.open())
	}
	if over := table.expire(attemptLife); len(over) != 1 || table.open() != 0 || len(table.of) != 0 || table.list.next != &table.list {
		t.Errorf("after 10 s: %d sessions over, %d open, %d in the table", len(over), table.open(), len(table.of))
	}
	if table.answered(a, nil, nil) {
		t.Error("an answer to an attempt that is over was taken")
	}
	if len(table.sources.of[0])+len(table.sources.of[1]) != 0 {
		t.Error("sources with nothing to remember are remembered")
	}
}

// TestForget frees what an attempt holds at once, and only once.
func TestForget(t *testing.T) {
	table := newAttempts(Limits{}.withDefaults().shareHalfOpen(1000, CookieAuto))
	key := attemptKey{wire.ID{1}, netip.MustParseAddrPort("[2001:db8::1]:1000")}
	a, _ := table.begin(0, key, [32]byte{}, source{})
	table.forget(a)
	table.forget(a)
	table.confirmed(a)
	if table.open() != 0 || len(table.of) != 0 {
		t.Errorf("%d open, %d in the table", table.open(), len(table.of))
	}
	if _, reason := table.begin(0, key, [32]byte{}, source{}); reason != 0 {
		t.Errorf("the same INIT again: %v", reason)
	}
	table.expire(attemptLife)
	if table.open() != 0 {
		t.Errorf("%d open", table.open())
	}
}

// INITs without a valid cookie leave half of the room to those that have one.
func TestHalfOpenShares(t *testing.T) {
	for _, tc := range []struct {
		policy        CookiePolicy
		limit         int
		ids           uint32
		all, unproven int
	}{
		{CookieAuto, 10, 1000, 10, 5},
		{CookieAlways, 10, 1000, 10, 5},
		{CookieNever, 10, 1000, 10, 10},
		{CookieAuto, 1000, 48, 12, 6}, // a quarter of a small table
		{CookieAuto, 1, 1000, 1, 1},
	} {
		l := Limits{HalfOpen: tc.limit}.withDefaults().shareHalfOpen(tc.ids, tc.policy)
		table := newAttempts(l)
		begin := func(n int, proven bool) (*attempt, Reason) {
			from := netip.AddrPortFrom(network6(uint32(n)), 1000)
			return table.begin(0, attemptKey{wire.ID{}, from}, [32]byte{}, source{makePrefix(from.Addr(), handshakePrefixBits), proven})
		}
		var open []*attempt
		fill := func(proven bool) (n int) {
			for {
				a, reason := begin(len(open), proven)
				if a == nil {
					if reason != HalfOpenLimit {
						t.Errorf("%+v: %v", tc, reason)
					}
					return n
				}
				open = append(open, a)
				n++
			}
		}
		if n := fill(false); n != tc.unproven {
			t.Errorf("%+v: %d unproven ones", tc, n)
		}
		if n := fill(true); n != tc.all-tc.unproven {
			t.Errorf("%+v: %d proven ones beside them", tc, n)
		}
		for _, a := range open {
			table.forget(a)
		}
		if open = nil; fill(false) != tc.unproven {
			t.Errorf("%+v: there is less room after all have gone", tc)
		}
	}
}

// A refusal is half-open no more, but its RESP stays, and even those are bounded.
func TestRefusedAttempts(t *testing.T) {
	table := newAttempts(Limits{}.withDefaults().shareHalfOpen(1000, CookieAuto))
	for i := range maxAttempts {
		from := netip.AddrPortFrom(network6(uint32(i)), 1000)
		a, reason := table.begin(0, attemptKey{wire.ID{}, from}, [32]byte{}, source{prefix: prefix{net: uint64(i)}})
		if a == nil || !table.answered(a, []byte("no"), nil) {
			t.Fatalf("attempt %d: %v", i, reason)
		}
	}
	if table.open() != 0 {
		t.Errorf("%d are half-open", table.open())
	}
	if resp, reason := table.recall(0, attemptKey{wire.ID{}, netip.AddrPortFrom(network6(0), 1000)}, [32]byte{}); string(resp) != "no" || reason != RespRepeated {
		t.Errorf("a repeat: %q, %v", resp, reason)
	}
	if _, reason := table.begin(0, attemptKey{id: wire.ID{1}}, [32]byte{}, source{proven: true}); reason != HalfOpenLimit {
		t.Errorf("beyond the bound: %v", reason)
	}
}

func TestSourcesBounded(t *testing.T) {
	s := newSources(Limits{}.withDefaults())
	for i := range uint64(maxSources) {
		if !s.open(0, source{prefix: prefix{net: i}}) {
			t.Fatalf("source %d refused", i)
		}
		s.closed(source{prefix: prefix{net: i}})
	}
	if s.open(0, source{prefix: prefix{net: maxSources}}) {
		t.Error("memory for sources is not bounded")
	}
	if !s.open(0, source{prefix: prefix{net: 0}}) || !s.open(0, source{prefix: prefix{net: maxSources}, proven: true}) {
		t.Error("a known source, or a proven one, was refused with the others")
	}
	s.sweep(time.Minute)
	if n := len(s.of[0]); n != 1 { // source 0 has one half-open
		t.Errorf("%d sources are left", n)
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	const rate, burst = 20, 64
	taken := 0
	for b.take(0, rate, burst) {
		taken++
	}
	if taken != burst {
		t.Errorf("a burst of %d", taken)
	}
	for now := time.Duration(0); now < 10*time.Second; now += time.Millisecond {
		if b.take(now, rate, burst) {
			taken++
		}
	}
	if want := burst + 10*rate; taken < want-1 || taken > want {
		t.Errorf("%d in 10 s, want %d", taken, want)
	}
	if b.full(10*time.Second) || !b.full(time.Minute) {
		t.Error("full is wrong")
	}
}

func TestPrefix(t *testing.T) {
	p := func(s string, bits uint8) prefix { return makePrefix(netip.MustParseAddr(s), bits) }
	for _, tc := range []struct {
		a, b string
		bits uint8
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", 64, true},
		{"192.0.2.1", "192.0.2.2", 64, false},
		{"2001:db8::1", "2001:db8::ffff:0:0:1", 64, true},
		{"2001:db8::1", "2001:db8:0:1::1", 64, false},
		{"2001:db8::1", "2001:db8:0:1::1", 56, true},
		{"2001:db8::1", "2001:db8:0:100::1", 56, false},
		{"::c000:201", "192.0.2.1", 64, false},
	} {
		if (p(tc.a, tc.bits) == p(tc.b, tc.bits)) != tc.same {
			t.Errorf("%s and %s at /%d: same is %v", tc.a, tc.b, tc.bits, !tc.same)
		}
	}
}

func TestCaps(t *testing.T) {
	c := newCaps(Limits{KeySessions: 2, PrefixSessions: 3})
	one, two := [32]byte{1}, [32]byte{2}
	home, away := makePrefix(netip.MustParseAddr("192.0.2.1"), sessionPrefixBits), makePrefix(netip.MustParseAddr("198.51.100.1"), sessionPrefixBits)
	for range 2 {
		if no := c.add(one, home, 0); no != "" {
			t.Fatal(no)
		}
	}
	if c.room(one, away, 0) == "" || c.add(one, away, 0) == "" {
		t.Error("a third session of one key")
	}
	if no := c.add(two, home, 0); no != "" {
		t.Error(no)
	}
	if c.room(two, home, 0) == "" {
		t.Error("a fourth session of one network")
	}
	c.move(home, away)
	if no := c.add(two, home, 0); no != "" {
		t.Errorf("after one has moved away: %s", no)
	}
	c.remove(one, away)
	c.remove(one, home)
	c.remove(two, home)
	c.remove(two, home)
	if len(c.keys)+len(c.prefixes) != 0 {
		t.Errorf("left over: %v %v", c.keys, c.prefixes)
	}
}
