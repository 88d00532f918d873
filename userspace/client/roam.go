// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
)

const (
	// settleTime lets a change come to rest before the routes are looked at: an
	// address, its routes and the link come as messages of their own.
	settleTime = 10 * time.Millisecond
	// retryTime is when a move that failed is tried again, in case the system tells
	// nothing more: an IPv6 address, for one, cannot be bound until the network has
	// been asked whether it is unique.
	retryTime = 250 * time.Millisecond
	// graceTime is how long the way that the system prefers is ahead of all others
	// after a move to it: an ordinary round trip and more, as it must not lose
	// against a way that is merely faster.
	graceTime = 500 * time.Millisecond
	// probeTime is how often a session that had to leave the way that the system
	// prefers asks whether that leads to the server again.
	probeTime = time.Minute
	// confirmTime is when a session is given up that the server accepted and then
	// said nothing in: its PINGs went out after 0, 1, 2 and 4 s.
	confirmTime = 6 * time.Second
	// sleepTime is the shortest sleep that counts. Clocks disagree by less.
	sleepTime = 2 * time.Second
)

// watchLoop listens to the system. If that ends by itself it looks every second.
func (s *Session) watchLoop() {
	changed := func() { notify(s.kick) }
	err := s.cfg.Network.Watch(s.life, changed)
	if s.life.Err() != nil {
		return
	}
	s.log.Warn("watch-lost", "cause", err, "instead", "looking every "+pollEvery.String())
	_ = poll(s.life, changed)
}

// roamer is the state of roamLoop: everything in it is that goroutine's own.
type roamer struct {
	*Session
	w work

	look     *time.Timer // at the routes
	settling bool        // look is due because something has changed
	grace    *time.Timer // of the last move
	confirm  *time.Timer

	slept      time.Duration // when last asked
	moveFailed bool          // EventMoveFailed was told

	racers map[Way]*socket // sockets of the race
	probes bool            // the race is about a better way: losing it means nothing

	// configured are the addresses that Dial knew, named those that the name had last.
	configured, named []netip.AddrPort
	resolved          chan []netip.AddrPort
	resolving         bool
	ask               backoff // for the name, where it is all that may help

	reopener
}

// roamLoop keeps the session where it reaches the server.
func (s *Session) roamLoop(servers []netip.AddrPort) {
	r := &roamer{
		Session: s, configured: servers, slept: s.cfg.Network.Slept(),
		look: stopped(), grace: stopped(), confirm: time.NewTimer(confirmTime),
		racers: map[Way]*socket{}, resolved: make(chan []netip.AddrPort, 1),
		reopener: reopener{retry: stopped(), hold: stopped()},
	}
	defer func() {
		for _, t := range []*time.Timer{r.look, r.grace, r.confirm, r.retry, r.hold} {
			t.Stop()
		}
		r.giveUp()
	}()
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.kick:
			if !r.settling { // what comes meanwhile is seen by the same look
				r.settling = true
				r.look.Reset(settleTime)
			}
		case <-s.wake:
			r.attend()
		case <-r.look.C:
			r.lookAround()
		case <-r.grace.C:
			if r.inState(func() bool { return s.unheard }) {
				r.rescue()
			}
		case <-r.confirm.C:
			r.unconfirmed()
		case addrs := <-r.resolved:
			r.learn(addrs)
		case <-r.retry.C:
			r.again()
		case <-r.hold.C:
			r.adopt()
		case <-r.attemptDue():
			r.tickAttempt()
		case in := <-r.attemptPackets():
			r.receiveAttempt(in)
		}
	}
}

// stopped returns a timer that does not run.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// inState asks something of the Session's state.
func (r *roamer) inState(f func() bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f()
}

// act calls the state machine and carries out what comes of it. It does nothing
// once the session is over.
func (r *roamer) act(f func(now session.Time, out *session.Output)) {
	r.mu.Lock()
	if !r.over {
		f(r.now(), &r.w.out)
	}
	r.gather(&r.w)
	r.mu.Unlock()
	r.carryOut(&r.w)
}

// attend acts on what the state machine has told.
func (r *roamer) attend() {
	r.mu.Lock()
	n := r.news
	r.news = news{}
	lost, doubt, silent := r.lost, r.doubt, r.silent
	r.mu.Unlock()
	if n.heard && lost == nil {
		r.calm()
	}
	if n.confirmed {
		r.confirm.Stop()
		r.lookAround() // what changed before it could move
	}
	if n.moved {
		r.grace.Reset(graceTime)
	}
	switch {
	case n.lost:
		r.reopenLost(lost, n)
	case n.silent || n.jumped:
		r.rescue()
	case n.raceLost && r.probes && silent:
		r.rescue() // the silence came in the middle of it
	case n.raceLost && !r.probes && doubt:
		r.reopenSilent()
	case n.addrs:
		r.newAddrs()
	}
}

// unconfirmed gives a session up that the server never said anything in.
func (r *roamer) unconfirmed() {
	r.mu.Lock()
	if r.lost == nil && !r.cfg.NoReopen && r.machine.State() == session.StateUnconfirmed {
		r.lose(&ClosedError{Cause: ErrSilent}, true, &r.w)
	}
	r.gather(&r.w)
	r.mu.Unlock()
	r.carryOut(&r.w)
}

// lookAround looks for what has changed: the clock, and the routes.
func (r *roamer) lookAround() {
	slept := r.cfg.Network.Slept()
	if slept-r.slept >= sleepTime {
		r.act(func(now session.Time, out *session.Output) {
			_ = r.machine.Resume(now, out) // fails if there is no session: then one is being opened
		})
	}
	r.slept = slept
	r.look.Stop()
	r.settling = false
	if r.inState(func() bool { return r.lost == nil }) {
		if again := r.follow(); again > 0 {
			r.look.Reset(again)
		}
		if r.dialer == nil && r.inState(func() bool { return r.doubt || r.silent }) && !r.racing() {
			r.rescue()
		}
	}
	r.networkChanged()
}

// follow compares the current path with what the system offers and moves if it
// must. It returns when to do so again although nothing changes, or 0.
func (r *roamer) follow() (again time.Duration) {
	r.mu.Lock()
	path := r.machine.Path()
	current := r.endpoints(path)
	socket := r.sockets[path.Socket]
	r.mu.Unlock()
	if socket == nil {
		return 0 // the session is being shut down
	}
	network := r.cfg.Network
	dead := socket.dead.Load()
	// A way that won a race against the system's stays, as long as it is there.
	stands := socket.raced && !dead &&
		slices.ContainsFunc(network.Ways(current.Remote), func(w Way) bool { return w.Addr == socket.way.Addr })
	local, remote, err := choose(network, r.servers(), current.Remote)
	if err != nil && !stands {
		if !r.offline.Swap(true) {
			r.tell(Event{Kind: EventNoRoute, From: current, Err: err})
		}
		// The system will tell when there is one. The server may have another address
		// where the routes lead now, and of that nobody tells.
		if r.resolve() {
			return r.ask.next()
		}
		return 0
	}
	r.ask.reset()
	wasOffline := r.offline.Swap(false)
	switch {
	case local == current.Local.Addr() && remote == current.Remote && !dead:
		r.moveFailed = false
		if wasOffline {
			r.tell(Event{Kind: EventRouteBack, To: current})
			r.act(func(now session.Time, out *session.Output) {
				_ = r.machine.Ping(now, out) // says at once that we are back; fails only if it is over
			})
		}
		return 0
	case stands && (err != nil || r.inState(func() bool { return r.silent || r.doubt })):
		return 0 // nowhere to go, or all paths are asked anyway
	case stands:
		r.probe(Way{Addr: local}, remote)
		return probeTime
	}
	_, err = r.moveTo(local, remote, &r.w)
	switch {
	case err == nil:
		r.moveFailed = false
		return 0
	case errors.Is(err, session.ErrNotConfirmed), errors.Is(err, net.ErrClosed):
		return 0 // attend looks again when it is confirmed
	case !r.moveFailed:
		r.moveFailed = true
		r.tell(Event{Kind: EventMoveFailed, From: current, To: Endpoints{netip.AddrPortFrom(local, 0), remote}, Err: err})
	}
	return retryTime
}

// choose returns the server address to use and ours that leads there: the
// current one if there is a route, else the others in their order, those of the
// same family first. Without any it returns ErrNoRoute and the first cause.
func choose(network Network, servers []netip.AddrPort, current netip.AddrPort) (local netip.Addr, remote netip.AddrPort, err error) {
	order := make([]netip.AddrPort, 0, len(servers)+1)
	order = append(order, current)
	for _, sameFamily := range []bool{true, false} {
		for _, a := range servers {
			if a != current && (a.Addr().Is4() == current.Addr().Is4()) == sameFamily {
				order = append(order, a)
			}
		}
	}
	for _, a := range order {
		local, sourceErr := network.Source(a)
		if sourceErr == nil {
			return local, a, nil
		}
		if err == nil {
			err = fmt.Errorf("%w: %v: %w", ErrNoRoute, a, sourceErr)
		}
	}
	return netip.Addr{}, netip.AddrPort{}, err
}

// moveTo opens a socket and puts the session on it. arrived is closed when the
// server has been heard there, or where the session moved to since.
func (s *Session) moveTo(local netip.Addr, remote netip.AddrPort, w *work) (arrived <-chan struct{}, err error) {
	way := Way{Addr: local}
	conn, err := s.cfg.Network.Listen(way)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	socket := s.adoptSocket(conn, way, false)
	if socket == nil {
		s.mu.Unlock()
		return nil, net.ErrClosed
	}
	err = s.machine.Move(s.now(), session.Path{Socket: socket.number, Remote: remote}, &w.out)
	if err != nil {
		delete(s.sockets, socket.number)
		s.mu.Unlock()
		conn.Close()
		if errors.Is(err, session.ErrClosed) {
			err = net.ErrClosed
		}
		return nil, err
	}
	wait := make(chan struct{})
	s.arrivals = append(s.arrivals, wait)
	s.gather(w)
	s.group.Add(1)
	s.mu.Unlock()
	s.carryOut(w)
	go func() { // not before the first packet has left: it takes a processor and memory
		defer s.group.Done()
		s.readLoop(socket)
	}()
	return wait, nil
}

// adoptSocket makes a socket one of the session's, and closes it if that is over,
// in which case it returns nil. Somebody has to read it. mu is held.
func (s *Session) adoptSocket(conn netio.Conn, way Way, raced bool) *socket {
	if s.over {
		conn.Close()
		return nil
	}
	socket := &socket{number: s.next, conn: conn, way: way, raced: raced, local: conn.LocalAddr()}
	s.next++
	s.sockets[socket.number] = socket
	return socket
}

// Move puts the session on a new socket at the address that the system would now
// send from, even if it is the one in use, under new ids, and waits until the
// server has been heard there. Sessions move by themselves when the system's
// routes change; this is for those who know more. It fails with ErrNoRoute,
// ctx's error, a *ClosedError, or, while a lost session is being opened again,
// with why it was lost.
func (s *Session) Move(ctx context.Context) error {
	s.mu.Lock()
	current, known, lost := s.machine.Path().Remote, s.machine.Known(), s.lost
	s.mu.Unlock()
	if lost != nil {
		return fmt.Errorf("move: there is no session yet to move: %w", lost)
	}
	local, remote, err := choose(s.cfg.Network, known, current)
	if err != nil {
		return err
	}
	arrived, err := s.moveTo(local, remote, new(work))
	if err != nil {
		if closed := s.Err(); closed != nil {
			return closed
		}
		return fmt.Errorf("move to %v: %w", local, err)
	}
	select {
	case <-arrived:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("move to %v: the server has not been heard there: %w", local, ctx.Err())
	case <-s.done:
		return s.Err()
	}
}

// tell logs an event of our own and hands it to the application.
func (s *Session) tell(e Event) {
	e.At = time.Now()
	e.log(s.log)
	s.teller.add([]Event{e})
}
