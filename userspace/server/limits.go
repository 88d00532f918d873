// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"sync"
	"time"
)

// Limits bounds what peers can make the server do. A zero field takes its
// default, which is docs/PROTOCOL.md's where that page gives one.
type Limits struct {
	// PrefixRate and PrefixBurst bound new INITs, each second, of a source
	// prefix (IPv4 /32, IPv6 /64). Those with a valid cookie and those
	// without are counted apart. Default 20/s, burst 64.
	PrefixRate, PrefixBurst int
	// PrefixHalfOpen bounds the unconfirmed sessions of a prefix, counted
	// apart in the same way. Default 64.
	PrefixHalfOpen int
	// HalfOpen bounds the unconfirmed sessions in all. They never take more than a
	// quarter of what the table may hold. Those of INITs without a valid cookie are at
	// most half of them, so that forged ones leave room for clients that have proven
	// their address; all of them under CookieNever, where nobody has. Default 65,536.
	HalfOpen int
	// UncookiedRate is how many INITs without a valid cookie, each second for
	// each worker, CookieAuto takes before it demands one. Default 200.
	UncookiedRate int
	// VersionRate bounds VERSIONS answers, each second. Default 100.
	VersionRate int
	// KeySessions bounds the confirmed sessions of one client key. Default 64.
	KeySessions int
	// PrefixSessions bounds the confirmed sessions of an IPv4 /32 or IPv6 /56. Default 4,096.
	PrefixSessions int
	// AcceptQueue bounds the confirmed sessions that wait for Accept. Default 1,024.
	AcceptQueue int
	// ReceiveBuffer bounds the datagrams of one session that wait for their
	// reader, in bytes, rounded down to a power of two between 4 KiB and
	// 16 MiB. Default 256 KiB.
	ReceiveBuffer int

	// unprovenHalfOpen is the share of HalfOpen; see there.
	unprovenHalfOpen int
}

// shareHalfOpen fits HalfOpen to a table that may hold that many ids, and divides
// it between INITs with a valid cookie and those without.
func (l Limits) shareHalfOpen(ids uint32, policy CookiePolicy) Limits {
	l.HalfOpen = min(l.HalfOpen, max(int(ids/4), 1))
	l.unprovenHalfOpen = l.HalfOpen
	if policy != CookieNever {
		l.unprovenHalfOpen = (l.HalfOpen + 1) / 2
	}
	return l
}

// limitField is one field of Limits with its default.
type limitField struct {
	name  string
	value *int
	dflt  int
}

func (l *Limits) fields() []limitField {
	return []limitField{
		{"PrefixRate", &l.PrefixRate, 20},
		{"PrefixBurst", &l.PrefixBurst, 64},
		{"PrefixHalfOpen", &l.PrefixHalfOpen, 64},
		{"HalfOpen", &l.HalfOpen, 65536},
		{"UncookiedRate", &l.UncookiedRate, 200},
		{"VersionRate", &l.VersionRate, 100},
		{"KeySessions", &l.KeySessions, 64},
		{"PrefixSessions", &l.PrefixSessions, 4096},
		{"AcceptQueue", &l.AcceptQueue, 1024},
		{"ReceiveBuffer", &l.ReceiveBuffer, 256 << 10},
	}
}

func (l Limits) withDefaults() Limits {
	for _, f := range l.fields() {
		if *f.value == 0 {
			*f.value = f.dflt
		}
	}
	return l
}

// check refuses what no bucket and no queue can be made from.
func (l Limits) check() error {
	for _, f := range l.fields() {
		if *f.value < 0 || *f.value > 1<<30 {
			return fmt.Errorf("%w: limit %s = %d: give 1 to 2^30, or 0 for the default of %d", ErrConfig, f.name, *f.value, f.dflt)
		}
	}
	return nil
}

// bucket is a token bucket in the form of GCRA, as in the data plane: the
// theoretical arrival time of the next packet. Its zero value is full.
type bucket time.Duration

// take takes a token and reports whether there was one. A refusal changes nothing.
func (b *bucket) take(now time.Duration, rate, burst int) bool {
	interval := time.Second / time.Duration(rate)
	tat := max(time.Duration(*b), now)
	if tat-now > time.Duration(burst-1)*interval {
		return false
	}
	*b = bucket(tat + interval)
	return true
}

// limiter is a bucket that several goroutines share.
type limiter struct {
	rate, burst int

	mu     sync.Mutex
	bucket bucket
}

func (l *limiter) take(now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bucket.take(now, l.rate, l.burst)
}

// full reports whether the bucket is as good as a new one.
func (b bucket) full(now time.Duration) bool { return time.Duration(b) <= now }
