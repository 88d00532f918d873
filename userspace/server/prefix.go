// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// prefix stands for everyone who may share one source: an IPv4 address or an
// IPv6 network, which a single host can have whole. It has no pointer, so that
// maps of it cost the garbage collector nothing.
type prefix struct {
	net  uint64
	bits uint8 // 32 for IPv4, else of IPv6
}

func makePrefix(a netip.Addr, sixBits uint8) prefix {
	if a.Is4() {
		b := a.As4()
		return prefix{uint64(binary.BigEndian.Uint32(b[:])), 32}
	}
	b := a.As16()
	return prefix{binary.BigEndian.Uint64(b[:8]) &^ (1<<(64-sixBits) - 1), sixBits}
}

const (
	handshakePrefixBits = 64
	sessionPrefixBits   = 56
)

// source is whom an INIT is charged to. proven says that it carried a valid
// cookie: INITs with a forged source are charged to another entry than the
// honest ones of that source, and so cannot lock it out.
type source struct {
	prefix prefix
	proven bool
}

type sourceState struct {
	bucket   bucket
	halfOpen int32
}

// maxSources bounds the memory for sources (about 10 MB). Beyond it, new ones
// count as over their limit: forged sources meet it among themselves, since it
// is for each of proven and unproven apart.
const maxSources = 1 << 17

// sources keeps the limits for each source. Its owner's lock guards it.
type sources struct {
	limits Limits
	of     [2]map[prefix]sourceState // unproven, proven
}

func newSources(l Limits) sources {
	return sources{limits: l, of: [2]map[prefix]sourceState{{}, {}}}
}

func (s *sources) table(src source) map[prefix]sourceState {
	if src.proven {
		return s.of[1]
	}
	return s.of[0]
}

// open charges src for one more half-open session, or refuses and changes nothing.
func (s *sources) open(now time.Duration, src source) bool {
	m := s.table(src)
	st, known := m[src.prefix]
	if !known && len(m) >= maxSources {
		return false
	}
	if int(st.halfOpen) >= s.limits.PrefixHalfOpen || !st.bucket.take(now, s.limits.PrefixRate, s.limits.PrefixBurst) {
		return false
	}
	st.halfOpen++
	m[src.prefix] = st
	return true
}

// closed takes one half-open session off src.
func (s *sources) closed(src source) {
	m := s.table(src)
	st := m[src.prefix]
	st.halfOpen--
	m[src.prefix] = st
}

// sweep forgets the sources that are as good as new.
func (s *sources) sweep(now time.Duration) {
	for _, m := range s.of {
		for p, st := range m {
			if st.halfOpen == 0 && st.bucket.full(now) {
				delete(m, p)
			}
		}
	}
}
