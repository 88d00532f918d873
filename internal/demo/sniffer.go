// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// captured is a packet as it passed a tap.
type captured struct {
	from, to netip.AddrPort
	payload  []byte
}

// sniffer keeps what an eavesdropper on the client's paths learns. It is safe
// for concurrent use.
type sniffer struct {
	port  uint16 // the edge's
	mu    sync.Mutex
	up    keepsake // DATA of the client
	down  keepsake // DATA of the edge
	inits keepsake
}

// keepsake holds the newest packets of one sort.
type keepsake struct {
	packets []captured
	next    int
}

// keepMost is a second or two of the client's packets: the newest are the
// attacker's best, older ones stay by chance.
const keepMost = 1024

func (k *keepsake) add(c captured) {
	if len(k.packets) < keepMost {
		k.packets = append(k.packets, c)
		return
	}
	k.packets[k.next%keepMost] = c
	k.next++
}

func (k *keepsake) any() (captured, bool) {
	if len(k.packets) == 0 {
		return captured{}, false
	}
	return k.packets[rand.IntN(len(k.packets))], true
}

func (k *keepsake) newest() (captured, bool) {
	if len(k.packets) == 0 {
		return captured{}, false
	}
	return k.packets[(k.next+len(k.packets)-1)%len(k.packets)], true
}

// see takes a frame off a tap.
func (s *sniffer) see(frame []byte) {
	from, to, payload, ok := parseFrame(frame)
	if !ok || len(payload) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := captured{from, to, slices.Clone(payload)}
	switch {
	case to.Port() == s.port && payload[0] == wire.TypeData:
		s.up.add(c)
	case from.Port() == s.port && payload[0] == wire.TypeData:
		s.down.add(c)
	case to.Port() == s.port && payload[0] == wire.TypeInit:
		s.inits.add(c)
	}
}

// pick returns one captured packet of a sort.
func (s *sniffer) pick(choose func(*sniffer) (captured, bool)) (captured, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return choose(s)
}

func anyUp(s *sniffer) (captured, bool)    { return s.up.any() }
func newestUp(s *sniffer) (captured, bool) { return s.up.newest() }
func anyDown(s *sniffer) (captured, bool)  { return s.down.any() }
func anyInit(s *sniffer) (captured, bool)  { return s.inits.any() }
