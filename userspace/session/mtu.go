// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// ethernet is the IP packet that nearly every path carries, jumbo the largest
	// that is tried.
	ethernet = 1500
	jumbo    = 9000
	// mtuStep ends the search when so few bytes could still be won.
	mtuStep = 16
	// mtuTries is how often a size is tried before it counts as too large.
	mtuTries = 2
	// mtuAgain is when a search that found its end is tried again.
	mtuAgain = 10 * time.Minute
	// mtuConfirm is how often a raised MTU in use is tested: routes change under a
	// session without a move.
	mtuConfirm = 10 * time.Second
)

// mtu finds the UDP payload that the current path carries, by padded PINGs
// (RFC 8899 in small). The search starts when a datagram did not fit, so that
// sessions of small datagrams never search.
type mtu struct {
	size   int // known to pass
	search *mtuSearch
}

// mtuSearch is what a path's search has found out, once there was one.
type mtuSearch struct {
	tooBig uint16 // the smallest size known or taken not to pass
	probe  uint16 // the size being tried; 0: none
	tries  uint8
	token  uint64
	next   Time // of probe: when it counts as lost
	rest   Time // no new search before this
	test   Time // no test of a raised size before this
}

// begin returns the search of the path, a new one if there is none.
func (m *mtu) begin() *mtuSearch {
	if m.search == nil {
		m.search = &mtuSearch{tooBig: wire.MaxPacket + 1}
	}
	return m.search
}

// probing returns when the size being tried counts as lost.
func (m *mtu) probing() (next Time, ok bool) {
	if m.search == nil || m.search.probe == 0 {
		return 0, false
	}
	return m.search.next, true
}

// headers is what IP and UDP add to a payload.
func headers(p Path) int {
	if p.Remote.Addr().Unmap().Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// reset starts over on another path.
func (m *mtu) reset(p Path) {
	*m = mtu{size: floorOf(p)}
}

// floorOf is the MTU of a path of which nothing is known.
func floorOf(p Path) int {
	if p.Remote.Addr().Unmap().Is4() {
		return wire.InitialMTU4
	}
	return wire.InitialMTU6
}

// candidate returns the next size to try, or 0: first what Ethernet carries, then
// a jumbo frame, then halves of what is left.
func (m *mtu) candidate(p Path) int {
	tooBig := int(m.begin().tooBig)
	eth, most := ethernet-headers(p), min(jumbo-headers(p), wire.MaxPacket)
	switch {
	case m.size < eth && eth < tooBig:
		return eth
	case tooBig > most && m.size < most:
		return most
	case tooBig-m.size <= mtuStep || m.size >= eth:
		return 0 // between Ethernet and jumbo there is little to win
	}
	return (m.size + tooBig) / 2
}

// acknowledged takes the PONG of a probe.
func (m *mtu) acknowledged(token uint64, now Time) {
	h := m.search
	if h == nil || h.probe == 0 || token != h.token {
		return // of an earlier try: the last one's is on its way
	}
	m.size = max(m.size, int(h.probe))
	h.probe, h.tries = 0, 0
	h.test = now + mtuConfirm
}

// searchMTU begins or continues the search because a datagram of need bytes of
// UDP payload did not fit.
func (s *Session) searchMTU(now Time, need int, out *Output) {
	m := &s.mtu
	if _, probing := m.probing(); s.state != StateOpen || probing || len(s.candidates) > 0 {
		return
	}
	size := m.candidate(s.path)
	if size == 0 {
		if now < m.search.rest || m.size >= wire.MaxPacket {
			return
		}
		m.search.tooBig = wire.MaxPacket + 1 // search anew
		if size = m.candidate(s.path); size == 0 {
			return
		}
	}
	if size > ethernet && need <= m.size {
		return // what is sent fits: no need for jumbo probes
	}
	m.search.tries = 0
	s.probeMTU(now, size, out)
}

// testMTU tests a raised MTU that is in use.
func (s *Session) testMTU(now Time, out *Output) {
	m := &s.mtu
	if _, probing := m.probing(); !probing && m.size > floorOf(s.path) && now >= m.begin().test && len(s.candidates) == 0 {
		m.search.tries = 0
		s.probeMTU(now, m.size, out)
	}
}

func (s *Session) probeMTU(now Time, size int, out *Output) {
	m := s.mtu.begin()
	m.token = s.randomToken(out)
	start := begin(out, size)
	b := wire.AppendPing(out.arena, m.token)
	out.arena = wire.AppendPad(b, start+size-wire.TagLen-len(b))
	m.probe = uint16(size)
	m.tries++
	m.next = now + s.rtt.pto()
	if s.finish(now, out, start, s.path, s.rid, false) {
		s.remember(ping{token: m.token, at: now, generation: s.pathGeneration})
	}
}

// tickMTU counts an unanswered probe.
func (s *Session) tickMTU(now Time, out *Output) {
	next, probing := s.mtu.probing()
	if !probing || now < next {
		return
	}
	m, h := &s.mtu, s.mtu.search
	if h.tries < mtuTries {
		s.probeMTU(now, int(h.probe), out)
		return
	}
	if int(h.probe) <= m.size {
		m.size = floorOf(s.path) // it passed once and does no longer
	}
	h.tooBig = min(h.tooBig, h.probe)
	h.probe = 0
	h.rest = now + mtuAgain
	if size := m.candidate(s.path); size != 0 && h.tooBig <= ethernet {
		h.tries = 0
		s.probeMTU(now, size, out)
	}
}
