// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// readdresser moves the sessions of an address that the host has lost to the one
// that the kernel would send to them from. It has a goroutine of its own, since with
// a million of them that takes many seconds.
type readdresser struct {
	srv    *Server
	news   chan struct{} // an address was lost
	work   work
	routes routes

	left     []netip.AddrPort  // of the server's addresses, those that are not lost
	to       netip.AddrPort    // where the last session went
	addrs    []netip.AddrPort  // what its client was told, shared by all that go there
	stranded [2]netip.AddrPort // a client of IPv4 and one of IPv6 to whom no way leads
	again    session.Time      // when all are looked at again though there is no way to these
}

// routes says where the kernel would send from.
type routes interface {
	To(remote netip.AddrPort) netip.Addr // the zero Addr: no way there
	Close()
}

const (
	// strandedAgain is how often it is tried whether there is a way again.
	strandedAgain = time.Second
	// strandedShare bounds the part of the time that goes into looking at all sessions
	// for those to whom there is a way: one in so many.
	strandedShare = 10
)

// run moves sessions when it hears of a loss, and again when there is a way to
// clients to whom none led: a host that gets another address is without one for a
// while.
func (r *readdresser) run() {
	t := time.NewTicker(strandedAgain)
	defer t.Stop()
	for {
		select {
		case <-r.srv.ctx.Done():
			return
		case <-r.news:
		case <-t.C:
			if !r.due(r.srv.clock.now()) {
				continue
			}
		}
		r.moveAll()
	}
}

// due reports whether to look at all sessions again: there is a way to a client that
// stands for those of its family, or it has been long enough for there to be one to
// others. A network that stays away must not keep the others from being told.
func (r *readdresser) due(now session.Time) bool {
	return r.stranded != [2]netip.AddrPort{} && (now >= r.again || r.mayReach())
}

// mayReach reports whether there is a way now to a client that was stranded.
func (r *readdresser) mayReach() bool {
	defer r.routes.Close()
	return slices.ContainsFunc(r.stranded[:], func(remote netip.AddrPort) bool {
		return remote.IsValid() && r.routes.To(remote).IsValid()
	})
}

// moveAll moves every session whose client knows us by an address that we have
// lost, and tells the client all that are left.
func (r *readdresser) moveAll() {
	srv := r.srv
	defer r.routes.Close()
	r.left = slices.DeleteFunc(slices.Clone(srv.addresses()), func(a netip.AddrPort) bool { return srv.lost.has(a.Addr()) })
	r.to, r.stranded = netip.AddrPort{}, [2]netip.AddrPort{}
	next, stop := srv.pace()
	defer stop()
	began := srv.clock.now()
	r.work.begin(began)
	defer func() {
		r.work.end()
		now := srv.clock.now()
		r.again = now + strandedShare*(now-began)
	}()
	srv.visit(r.move, func() bool {
		r.work.begin(srv.clock.now())
		return next()
	})
}

// move moves a session if it is at a lost address. The caller holds its lock.
func (r *readdresser) move(s *Session, now session.Time, out *session.Output) bool {
	path := s.state.Path()
	if !r.srv.lost.has(path.Local.Addr()) {
		return false
	}
	source := r.routes.To(path.Remote)
	if !source.IsValid() { // no way to the client at all: it may come by another
		family := 0
		if path.Remote.Addr().Is6() {
			family = 1
		}
		r.stranded[family] = path.Remote
		return false
	}
	if to := netip.AddrPortFrom(source, r.srv.addr.Port()); to != r.to {
		r.to, r.addrs = to, r.left
		if !slices.Contains(r.left, to) && len(r.left) < wire.MaxAddrs {
			r.addrs = append(slices.Clip(r.left), to) // where our packets come from now
		}
	}
	return s.state.MoveLocal(now, r.to, r.addrs, out) == nil // closed or not confirmed: nobody to tell
}
