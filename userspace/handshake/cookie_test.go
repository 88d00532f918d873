// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

var (
	testSrc = netip.MustParseAddrPort("192.0.2.1:1000")
	testDst = netip.MustParseAddrPort("198.51.100.1:7626")
)

func TestCookieLifetime(t *testing.T) {
	hid := wire.ID{7}
	// Made in the middle, at the end and at the start of an epoch.
	for _, made := range []uint32{6_000_030, 6_000_059, 6_000_060} {
		ck := NewCookies([32]byte{1}, 0).Make(made, hid, testSrc, testDst)
		for age := -15; age <= 75; age++ {
			// A fresh one each time: nothing may depend on which keys are cached.
			got := NewCookies([32]byte{1}, 0).Valid(uint32(int(made)+age), ck, hid, testSrc, testDst)
			if want := age >= -CookieAhead && age <= CookieLifetime; got != want {
				t.Errorf("made at %d, %d s old: valid %v", made, age, got)
			}
		}
	}
}

func TestCookieIsForOneAttempt(t *testing.T) {
	const now = 1_767_225_600
	c := NewCookies([32]byte{1}, 5)
	hid := wire.ID{7}
	ck := c.Make(now, hid, testSrc, testDst)
	other := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	changed := func(at int) wire.Cookie { k := ck; k[at] ^= 1; return k }
	if !c.Valid(now, ck, hid, testSrc, testDst) {
		t.Fatal("own cookie is not valid")
	}
	if mapped := netip.AddrPortFrom(netip.AddrFrom16(testSrc.Addr().As16()), testSrc.Port()); !c.Valid(now, ck, hid, mapped, testDst) {
		t.Error("the IPv4-mapped form of the source is another source")
	}
	for name, valid := range map[string]bool{
		"none":             c.Valid(now, wire.Cookie{}, hid, testSrc, testDst),
		"other handshake":  c.Valid(now, ck, wire.ID{8}, testSrc, testDst),
		"other source":     c.Valid(now, ck, hid, other("192.0.2.2:1000"), testDst),
		"other port":       c.Valid(now, ck, hid, other("192.0.2.1:1001"), testDst),
		"other target":     c.Valid(now, ck, hid, testSrc, other("198.51.100.2:7626")),
		"other secret":     NewCookies([32]byte{2}, 5).Valid(now, ck, hid, testSrc, testDst),
		"other server":     NewCookies([32]byte{1}, 6).Valid(now, ck, hid, testSrc, testDst),
		"format changed":   c.Valid(now, changed(0), hid, testSrc, testDst),
		"key id changed":   c.Valid(now, changed(1), hid, testSrc, testDst),
		"server changed":   c.Valid(now, changed(3), hid, testSrc, testDst),
		"time changed":     c.Valid(now, changed(7), hid, testSrc, testDst),
		"hash changed":     c.Valid(now, changed(8), hid, testSrc, testDst),
		"hash end changed": c.Valid(now, changed(15), hid, testSrc, testDst),
	} {
		if valid {
			t.Errorf("%s: valid", name)
		}
	}
}

// The same cookies from many goroutines over a change of keys, for the race
// detector and for the cache.
func TestCookiesConcurrently(t *testing.T) {
	c := NewCookies([32]byte{3}, 0)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			hid := wire.ID{byte(g)}
			for now := uint32(1000); now < 1500; now++ {
				if ck := c.Make(now, hid, testSrc, testDst); !c.Valid(now+uint32(g), ck, hid, testSrc, testDst) {
					t.Errorf("made at %d: not valid at %d", now, now+uint32(g))
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestCookiesAllocateNothing(t *testing.T) {
	c := NewCookies([32]byte{3}, 0)
	ck := c.Make(100, wire.ID{}, testSrc, testDst)
	if n := testing.AllocsPerRun(100, func() {
		if !c.Valid(100, ck, wire.ID{}, testSrc, testDst) {
			t.Error("not valid")
		}
	}); n != 0 {
		t.Errorf("%v allocations to check a cookie: an attacker chooses how often", n)
	}
}

func BenchmarkCookieValid(b *testing.B) {
	c := NewCookies([32]byte{3}, 0)
	ck := c.Make(100, wire.ID{}, testSrc, testDst)
	for b.Loop() {
		c.Valid(100, ck, wire.ID{}, testSrc, testDst)
	}
}
