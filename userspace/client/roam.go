// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

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

// roamLoop moves the session to where the system would now send from.
func (s *Session) roamLoop() {
	var w work
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.kick:
			settle := time.NewTimer(settleTime)
			select {
			case <-s.life.Done():
				settle.Stop()
				return
			case <-settle.C:
			}
			select { // what came meanwhile is seen by this look
			case <-s.kick:
			default:
			}
		case <-s.retry:
		case <-again.C:
		}
		if err := s.follow(&w); err != nil {
			again.Reset(retryTime)
		} else {
			again.Stop()
		}
	}
}

// follow compares the current path with what the system offers and moves if it
// must. It returns an error if that should be tried again although nothing
// changes.
func (s *Session) follow(w *work) error {
	s.mu.Lock()
	path := s.machine.Path()
	current := s.endpoints(path)
	socket := s.sockets[path.Socket]
	s.mu.Unlock()

	if socket == nil {
		return nil // the session is being shut down
	}
	local, remote, err := choose(s.cfg.Network, s.cfg.Servers, current.Remote)
	if err != nil {
		if !s.offline.Swap(true) {
			s.tell(Event{Kind: EventNoRoute, From: current, Err: err})
		}
		return nil // the system will tell when there is one
	}
	wasOffline := s.offline.Swap(false)
	if local == current.Local.Addr() && remote == current.Remote && !socket.dead.Load() {
		s.moveFailed = false
		if wasOffline {
			s.tell(Event{Kind: EventRouteBack, To: current})
			s.mu.Lock()
			_ = s.machine.Ping(s.now(), &w.out) // says at once that we are back; fails only if it is over
			s.gather(w)
			s.mu.Unlock()
			s.carryOut(w)
		}
		return nil
	}
	_, err = s.moveTo(local, remote, w)
	switch {
	case err == nil:
		s.moveFailed = false
	case errors.Is(err, session.ErrNotConfirmed), errors.Is(err, net.ErrClosed):
		return nil // retry tells when it is confirmed
	case !s.moveFailed:
		s.moveFailed = true
		s.tell(Event{Kind: EventMoveFailed, From: current, To: Endpoints{netip.AddrPortFrom(local, 0), remote}, Err: err})
	}
	return err
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
	conn, err := s.cfg.Network.Listen(local)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		conn.Close()
		return nil, net.ErrClosed
	}
	socket := &socket{number: s.next, conn: conn, local: conn.LocalAddr()}
	s.next++
	s.sockets[socket.number] = socket
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
	s.group.Go(func() { s.readLoop(socket) })
	s.mu.Unlock()
	s.carryOut(w)
	return wait, nil
}

// Move puts the session on a new socket at the address that the system would now
// send from, even if it is the one in use, under new ids, and waits until the
// server has been heard there. Sessions move by themselves when the system's
// routes change; this is for those who know more. It fails with ErrNoRoute,
// ctx's error, or a *ClosedError.
func (s *Session) Move(ctx context.Context) error {
	s.mu.Lock()
	current := s.machine.Path().Remote
	s.mu.Unlock()
	local, remote, err := choose(s.cfg.Network, s.cfg.Servers, current)
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
