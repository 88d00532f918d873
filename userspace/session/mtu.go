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
	floor  int // passes by definition
	tooBig int // the smallest size known or taken not to pass
	probe  int // the size being tried; 0: none
	tries  int
	token  uint64
	next   Time // of probe: when it counts as lost
	rest   Time // no new search before this
	test   Time // no test of a raised size before this
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
	floor := wire.InitialMTU6
	if p.Remote.Addr().Unmap().Is4() {
		floor = wire.InitialMTU4
	}
	*m = mtu{size: floor, floor: floor, tooBig: wire.MaxPacket + 1}
}

// candidate returns the next size to try, or 0: first what Ethernet carries, then
// a jumbo frame, then halves of what is left.
func (m *mtu) candidate(p Path) int {
	eth, most := ethernet-headers(p), min(jumbo-headers(p), wire.MaxPacket)
	switch {
	case m.size < eth && eth < m.tooBig:
		return eth
	case m.tooBig > most && m.size < most:
		return most
	case m.tooBig-m.size <= mtuStep || m.size >= eth:
		return 0 // between Ethernet and jumbo there is little to win
	}
	return (m.size + m.tooBig) / 2
}

// acknowledged takes the PONG of a probe.
func (m *mtu) acknowledged(token uint64, now Time) {
	if m.probe == 0 || token != m.token {
		return // of an earlier try: the last one's is on its way
	}
	m.size = max(m.size, m.probe)
	m.probe, m.tries = 0, 0
	m.test = now + mtuConfirm
}

// searchMTU begins or continues the search because a datagram of need bytes of
// UDP payload did not fit.
func (s *Session) searchMTU(now Time, need int, out *Output) {
	if s.state != StateOpen || s.mtu.probe != 0 || len(s.candidates) > 0 {
		return
	}
	m := &s.mtu
	size := m.candidate(s.path)
	if size == 0 {
		if now < m.rest || m.size >= wire.MaxPacket {
			return
		}
		m.tooBig = wire.MaxPacket + 1 // search anew
		if size = m.candidate(s.path); size == 0 {
			return
		}
	}
	if size > ethernet && need <= m.size {
		return // what is sent fits: no need for jumbo probes
	}
	m.tries = 0
	s.probeMTU(now, size, out)
}

// testMTU tests a raised MTU that is in use.
func (s *Session) testMTU(now Time, out *Output) {
	if m := &s.mtu; m.probe == 0 && m.size > m.floor && now >= m.test && len(s.candidates) == 0 {
		m.tries = 0
		s.probeMTU(now, m.size, out)
	}
}

func (s *Session) probeMTU(now Time, size int, out *Output) {
	m := &s.mtu
	m.token = s.randomToken()
	start := begin(out, size)
	b := wire.AppendPing(out.arena, m.token)
	out.arena = wire.AppendPad(b, start+size-wire.TagLen-len(b))
	m.probe = size
	m.tries++
	m.next = now + s.rtt.pto()
	if s.finish(now, out, start, s.path, s.rid, false) {
		s.remember(ping{token: m.token, at: now, generation: s.pathGeneration})
	}
}

// tickMTU counts an unanswered probe.
func (s *Session) tickMTU(now Time, out *Output) {
	m := &s.mtu
	if m.probe == 0 || now < m.next {
		return
	}
	if m.tries < mtuTries {
		s.probeMTU(now, m.probe, out)
		return
	}
	if m.probe <= m.size {
		m.size = m.floor // it passed once and does no longer
	}
	m.tooBig = min(m.tooBig, m.probe)
	m.probe = 0
	m.rest = now + mtuAgain
	if size := m.candidate(s.path); size != 0 && m.tooBig <= ethernet {
		m.tries = 0
		s.probeMTU(now, size, out)
	}
}
