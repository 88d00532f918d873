// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
)

const (
	// maxPaths of a race, the current one not counted.
	maxPaths = 63
	// resolveTime is how long a resolver is waited for. A race is over by then, and
	// the next one takes what it says.
	resolveTime = 10 * time.Second
)

// pair is a path that may lead to the server: our way, and its address.
type pair struct {
	way    Way
	remote netip.AddrPort
}

// servers returns where the server may be, best first: where it was last, where it
// said it is, where its name leads now, where Dial was told it is; of both
// families, at most as many as a race takes.
func (r *roamer) servers() []netip.AddrPort {
	r.mu.Lock()
	all := append([]netip.AddrPort{r.machine.Path().Remote}, r.machine.ServerAddrs()...)
	known := r.machine.Known()
	r.mu.Unlock()
	all = slices.Concat(all, r.named, r.configured, known)
	var four, six, out []netip.AddrPort
	for _, a := range all {
		switch {
		case !usable(a) || slices.Contains(four, a) || slices.Contains(six, a):
		case a.Addr().Is4():
			four = append(four, a)
		default:
			six = append(six, a)
		}
	}
	// By turns, so that many addresses of one family leave room for the other.
	if !all[0].Addr().Is4() {
		four, six = six, four
	}
	for i := 0; len(out) < session.MaxRaceServers && i < max(len(four), len(six)); i++ {
		for _, family := range [][]netip.AddrPort{four, six} {
			if i < len(family) && len(out) < session.MaxRaceServers {
				out = append(out, family[i])
			}
		}
	}
	return out
}

// pairs returns the paths that may lead to the server, those that the system
// would take first.
func (r *roamer) pairs() []pair {
	var first, more []pair
	for _, remote := range r.servers() {
		for i, way := range r.cfg.Network.Ways(remote) {
			if i == 0 {
				first = append(first, pair{way, remote})
			} else {
				more = append(more, pair{way, remote})
			}
		}
	}
	all := append(first, more...)
	return all[:min(len(all), maxPaths)]
}

// rescue looks for the server on all paths at once.
func (r *roamer) rescue() {
	if r.inState(func() bool { return r.lost != nil || r.machine.State() != session.StateOpen }) {
		return
	}
	r.resolve()
	pairs := r.pairs()
	if len(pairs) == 0 {
		return // lookAround comes back to it when there is a network
	}
	r.act(func(now session.Time, out *session.Output) { r.machine.StopRace(now, out) })
	r.probes = false
	r.mu.Lock()
	r.doubt = true
	r.mu.Unlock()
	r.race(pairs, true)
}

// probe asks whether the way that the system prefers leads to the server, while
// another one does.
func (r *roamer) probe(way Way, remote netip.AddrPort) {
	if !r.racing() {
		r.probes = true
		r.race([]pair{{way, remote}}, false)
	}
}

// newAddrs acts on the server's word where it is: if that is no longer where we
// reach it, it is about to leave.
func (r *roamer) newAddrs() {
	r.mu.Lock()
	at, addrs := r.machine.Path().Remote, r.machine.ServerAddrs()
	r.mu.Unlock()
	if slices.Contains(addrs, at) || r.racing() {
		return
	}
	var pairs []pair
	for _, p := range r.pairs() {
		if slices.Contains(addrs, p.remote) {
			pairs = append(pairs, p)
		}
	}
	r.probes = true
	r.race(pairs, false)
}

func (r *roamer) racing() bool {
	return r.inState(func() bool { return r.machine.Info().Racing > 0 })
}

// race asks on paths, and with current also on the one that the session is on.
// Those of a race that runs are asked once more. A way that cannot be opened, or
// a session that cannot race, shows in that nothing answers.
func (r *roamer) race(pairs []pair, current bool) {
	r.mu.Lock()
	for way, socket := range r.racers {
		if r.sockets[socket.number] != socket || socket.dead.Load() {
			delete(r.racers, way)
		}
	}
	r.mu.Unlock()
	var opened []*socket
	for _, p := range pairs {
		if r.racers[p.way] != nil {
			continue
		}
		conn, err := r.cfg.Network.Listen(p.way)
		if err != nil {
			continue
		}
		r.mu.Lock()
		socket := r.adoptSocket(conn, p.way, foreign(r.cfg.Network, p.way, p.remote))
		r.mu.Unlock()
		if socket == nil {
			return
		}
		r.racers[p.way] = socket
		opened = append(opened, socket)
	}
	r.mu.Lock()
	var paths []session.Path
	if path := r.machine.Path(); current && r.sockets[path.Socket] != nil && !r.sockets[path.Socket].dead.Load() {
		paths = append(paths, path)
	}
	for _, p := range pairs {
		if socket := r.racers[p.way]; socket != nil && r.sockets[socket.number] == socket {
			paths = append(paths, session.Path{Socket: socket.number, Remote: p.remote})
		}
	}
	err := session.ErrClosed
	if !r.over {
		err = r.machine.Race(r.now(), paths, &r.w.out)
	}
	for _, socket := range opened {
		if r.over {
			break // shutdown has closed them
		}
		if err != nil {
			delete(r.sockets, socket.number)
			r.w.closes = append(r.w.closes, socket.conn)
			continue
		}
		r.group.Go(func() { r.readLoop(socket) })
	}
	r.gather(&r.w)
	r.mu.Unlock()
	r.carryOut(&r.w)
}

// foreign reports whether the system would not take a way by itself. What it would
// take is not held on to when it changes its mind.
func foreign(network Network, way Way, remote netip.AddrPort) bool {
	system, err := network.Source(remote)
	return err != nil || system != way.Addr
}

// resolve asks again for the addresses of the server's name, and for those of IPv4
// addresses that have no route here. It returns false if there is nothing to ask for.
func (r *roamer) resolve() bool {
	var names []string
	if r.cfg.Server != "" {
		names = append(names, r.cfg.Server)
	}
	for _, a := range r.servers() {
		if _, err := r.cfg.Network.Source(a); err != nil && a.Addr().Is4() {
			names = append(names, a.String())
		}
	}
	if r.resolving || len(names) == 0 {
		return r.resolving
	}
	r.resolving = true
	r.group.Go(func() {
		ctx, stop := context.WithTimeout(r.life, resolveTime)
		defer stop()
		var all []netip.AddrPort
		for _, name := range names {
			addrs, err := r.cfg.Network.Resolve(ctx, name)
			if err != nil {
				r.log.Debug("resolve", "name", name, "cause", err)
			}
			all = append(all, addrs...)
		}
		r.resolved <- all // has room for the one
	})
	return true
}

// learn takes the addresses that the server's name has now.
func (r *roamer) learn(addrs []netip.AddrPort) {
	r.resolving = false
	addrs = slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return !usable(a) })
	if len(addrs) == 0 {
		return // no answer, or an empty one: what is known may still be right
	}
	before := r.servers()
	r.named = addrs
	var fresh []netip.AddrPort
	for _, a := range r.servers() {
		if !slices.Contains(before, a) {
			fresh = append(fresh, a)
		}
	}
	if len(fresh) == 0 {
		return
	}
	r.act(func(_ session.Time, _ *session.Output) { r.machine.Learn(fresh...) })
	switch {
	case r.offline.Load():
		r.lookAround()
	case !r.probes && r.dialer == nil && r.racing():
		var pairs []pair
		for _, p := range r.pairs() {
			if slices.Contains(fresh, p.remote) {
				pairs = append(pairs, p)
			}
		}
		r.race(pairs, false)
	default:
		r.networkChanged()
	}
}
