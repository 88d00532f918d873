// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// checkAddresses refuses what ADDRS cannot say.
func checkAddresses(addrs []netip.AddrPort) error {
	if len(addrs) > wire.MaxAddrs {
		return fmt.Errorf("%w: %d addresses: clients can be told %d", ErrConfig, len(addrs), wire.MaxAddrs)
	}
	for i, a := range addrs {
		if !a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || slices.Contains(addrs[:i], a) {
			return fmt.Errorf("%w: address %v: give each address and port that clients can reach, once", ErrConfig, a)
		}
	}
	return nil
}

// addresses are where clients are told that the server can be reached.
func (srv *Server) addresses() []netip.AddrPort { return *srv.addrs.Load() }

// SetAddresses replaces Config.Addresses and tells the clients of all sessions, at
// most 32,000 a second. Errors wrap ErrConfig.
func (srv *Server) SetAddresses(addrs []netip.AddrPort) error {
	if err := checkAddresses(addrs); err != nil {
		return err
	}
	addrs = slices.Clone(addrs) // all sessions share it
	srv.addrs.Store(&addrs)
	next, stop := srv.pace()
	defer stop()
	srv.visit(func(s *Session, now session.Time, out *session.Output) bool {
		return s.state.SetAddrs(now, addrs, out) == nil // who is not confirmed is told then
	}, next)
	return nil
}

// lostAddresses are addresses of ours that the host has no more: an address that
// moved to another machine, or a link that went away. Sessions still answer from
// the address that their client asked, which the kernel refuses then.
type lostAddresses struct {
	lost atomic.Pointer[[]netip.Addr] // nil: none, as nearly always
	used sync.Map                     // netip.Addr: where clients have spoken to us, at most maxUsed
	uses atomic.Int32                 // how many those are

	mu      sync.Mutex
	checked map[netip.Addr]session.Time
}

const (
	// lostAgain is how soon an address is looked at again after a refusal.
	lostAgain = 100 * time.Millisecond
	// maxChecked bounds the memory for that.
	maxChecked = 256
	// maxUsed bounds what is looked at each second. A host can have whole networks for
	// its own (AnyIP), and then a client names our address: the loss of further ones
	// is noticed when the kernel refuses a packet.
	maxUsed = 256
)

func (l *lostAddresses) has(a netip.Addr) bool {
	lost := l.lost.Load()
	return lost != nil && slices.Contains(*lost, a)
}

// look finds out whether the host has lost a, of which it refused a packet, and
// reports whether that is news.
func (l *lostAddresses) look(now session.Time, a netip.Addr) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.checked[a]; ok && now-at < lostAgain || l.has(a) {
		return false
	}
	if l.checked == nil || len(l.checked) >= maxChecked {
		l.checked = make(map[netip.Addr]session.Time)
	}
	l.checked[a] = now
	if hostHas(a) {
		return false
	}
	l.use(a)
	l.set(append(slices.Clone(l.list()), a))
	return true
}

// use notes that clients speak to us at a.
func (l *lostAddresses) use(a netip.Addr) {
	if _, known := l.used.Load(a); known || !a.IsValid() || a.IsUnspecified() {
		return
	}
	if l.uses.Add(1) > maxUsed {
		l.uses.Add(-1)
		return
	}
	if _, known := l.used.LoadOrStore(a, nil); known {
		l.uses.Add(-1)
	}
}

// review looks at all addresses in use, so that a loss is noticed though nothing
// is to be sent, and returns those that are gone or back since the last time.
func (l *lostAddresses) review() (gone, back []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.list()
	var now []netip.Addr
	l.used.Range(func(key, _ any) bool {
		a := key.(netip.Addr)
		has := hostHas(a)
		if !has {
			now = append(now, a)
		}
		switch known := slices.Contains(was, a); {
		case has && known:
			back = append(back, a)
			delete(l.checked, a)
		case !has && !known:
			gone = append(gone, a)
		}
		return true
	})
	l.set(now)
	return gone, back
}

func (l *lostAddresses) list() []netip.Addr {
	if lost := l.lost.Load(); lost != nil {
		return *lost
	}
	return nil
}

func (l *lostAddresses) set(list []netip.Addr) {
	if len(list) == 0 {
		l.lost.Store(nil)
		return
	}
	l.lost.Store(&list)
}

// hostHas asks the kernel in the one way that is the same everywhere: only an
// address of the host can be bound. Where something else is in the way (no descriptor
// or port left, a link-local address, which means nothing without its interface) it
// cannot tell, and all is taken to be as it was.
func hostHas(a netip.Addr) bool {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return !errors.Is(err, syscall.EADDRNOTAVAIL)
	}
	conn.Close()
	return true
}

// reroute lets the kernel choose the source of those messages, of which it
// refused some, whose own the host has lost, and returns them.
func (srv *Server) reroute(ms []netio.Message) (again []netio.Message) {
	now := srv.clock.now()
	for _, m := range ms {
		if !m.Local.IsValid() || m.Local.Addr().IsUnspecified() {
			continue
		}
		if srv.lost.look(now, m.Local.Addr()) {
			srv.addressLost(m.Local.Addr())
		}
		if srv.lost.has(m.Local.Addr()) {
			m.Local = netip.AddrPort{}
			again = append(again, m)
		}
	}
	return again
}

// addressLost has the sessions at a seen to.
func (srv *Server) addressLost(a netip.Addr) {
	srv.tell(Event{Name: "address_lost", Path: netip.AddrPortFrom(a, srv.addr.Port())})
	srv.cfg.Log.Warn("address_lost", "address", a)
	select {
	case srv.readdress.news <- struct{}{}:
	default:
	}
}

// reviewAddresses notices that an address was lost, or that one is back.
func (srv *Server) reviewAddresses() {
	gone, back := srv.lost.review()
	for _, a := range gone {
		srv.addressLost(a)
	}
	for _, a := range back {
		srv.tell(Event{Name: "address_back", Path: netip.AddrPortFrom(a, srv.addr.Port())})
		srv.cfg.Log.Info("address_back", "address", a)
	}
}
