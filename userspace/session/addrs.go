// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// maxKnown bounds the addresses of the server that a client remembers beside
	// those of ADDRS.
	maxKnown = 32
	// MaxRaceServers is the most addresses of the server that Race takes and Known
	// returns.
	MaxRaceServers = 8
)

// finder is what a client has to find its server by.
type finder struct {
	known    []netip.AddrPort // where the server may be
	told     []netip.AddrPort // where it says it is, by ADDRS
	observed netip.AddrPort   // where it says we are
	silence  silence
	// inRow is how many datagrams have come since one was sent, as far as flowing.
	inRow uint8
	// lastDatagram is when the last one went either way.
	lastDatagram Time
	// movedFrom, if any, is the path that Move left for one that nothing has been
	// heard on yet; left are all that it left a short while ago.
	movedFrom *Path
	left      []leftPath
}

// Learn tells a client of addresses of the server, for instance after names were
// resolved again. They are addresses that the server may send from and that the
// session may move to.
func (s *Session) Learn(addrs ...netip.AddrPort) {
	for _, a := range addrs {
		s.learn(a)
	}
}

func (s *Session) learn(a netip.AddrPort) {
	if f := s.finder; f != nil && len(f.known) < maxKnown && !slices.Contains(f.known, a) {
		f.known = append(f.known, a)
	}
}

// Known returns, on a client, where the server may be: the current address first,
// then those of the last ADDRS, then the others; at most MaxRaceServers.
func (s *Session) Known() []netip.AddrPort {
	if s.finder == nil {
		return nil
	}
	all := make([]netip.AddrPort, 0, MaxRaceServers)
	all = append(all, s.path.Remote)
	for _, list := range [][]netip.AddrPort{s.finder.told, s.finder.known} {
		for _, a := range list {
			if len(all) < MaxRaceServers && !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

// knows reports whether a is an address of the server.
func (s *Session) knows(a netip.AddrPort) bool {
	return slices.Contains(s.finder.known, a) || slices.Contains(s.finder.told, a)
}

// ServerAddrs returns, on a client, the addresses of the last ADDRS: where else
// the server can be reached.
func (s *Session) ServerAddrs() []netip.AddrPort {
	if s.finder == nil {
		return nil
	}
	return slices.Clone(s.finder.told)
}

// addrs remembers where else the server can be reached.
func (s *Session) addrs(plain []byte, out *Output) {
	f := &out.frame
	for r := wire.NewFrameReader(plain); r.Next(f); {
		switch {
		case f.Type != wire.FrameAddrs:
		case s.finder == nil:
			s.count(WrongSide)
		default:
			s.finder.told = append(s.finder.told[:0], f.Addrs()...)
			out.event(Event{Kind: EventAddrs, Path: s.path})
		}
	}
}

// SetAddrs tells the client, reliably, all of the server's addresses, in place of
// those told before: where it can be reached, and where its packets may come from.
// At most wire.MaxAddrs, all valid. The slice may be shared by all sessions and
// must not change any more. It fails with ErrNotServer, ErrClosed, ErrNotConfirmed
// or ErrConfig.
func (s *Session) SetAddrs(now Time, addrs []netip.AddrPort, out *Output) error {
	if err := s.mayTellAddrs(addrs); err != nil {
		return err
	}
	s.ctl.addrs = &addrsFrame{addrs: addrs}
	s.pushControl(now, out)
	return nil
}

// mayTellAddrs returns an error of SetAddrs, or nil.
func (s *Session) mayTellAddrs(addrs []netip.AddrPort) error {
	if s.role != Server {
		return ErrNotServer
	}
	if err := s.canSend(); err != nil {
		return err
	}
	if len(addrs) > wire.MaxAddrs {
		return fmt.Errorf("%w: %d addresses, ADDRS holds %d", ErrConfig, len(addrs), wire.MaxAddrs)
	}
	for _, a := range addrs {
		if !a.IsValid() {
			return fmt.Errorf("%w: an address for ADDRS is not valid", ErrConfig)
		}
	}
	return nil
}

// addrsFrame is an ADDRS that the client has not acknowledged; its identity tells
// which of several a PONG is for.
type addrsFrame struct{ addrs []netip.AddrPort }
