// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
)

// sessionList is the sessions of one `connect`, for its status line.
type sessionList struct {
	mu     sync.Mutex
	last   int
	open   map[int]*client.Session
	untold map[int]struct{} // begun, and their end was not told yet
	idle   chan struct{}    // closed when untold is empty; nil: nobody waits
	newest int              // of those that are open
	moved  time.Time        // the last move of any
	cut    bool             // there is no route to the server

	// The interface of the newest one's address, which the system is asked for once.
	asked netip.Addr
	name  string
}

// begin returns the number of a session that is about to be opened.
func (l *sessionList) begin(uint16) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	if l.untold == nil {
		l.untold = make(map[int]struct{})
	}
	l.untold[l.last] = struct{}{}
	return l.last
}

// settle waits until the end of every session has been told, which happens behind
// the back of who closes it, but not for long: nothing but words is lost.
func (l *sessionList) settle(within time.Duration) {
	l.mu.Lock()
	if len(l.untold) == 0 {
		l.mu.Unlock()
		return
	}
	idle := make(chan struct{})
	l.idle = idle
	l.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(within):
	}
}

func (l *sessionList) opened(n int, s *client.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Err() != nil {
		return // its end was told before
	}
	if l.open == nil {
		l.open = make(map[int]*client.Session)
	}
	l.open[n] = s
	l.newest = max(l.newest, n)
}

func (l *sessionList) end(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, n)
	delete(l.untold, n)
	if len(l.untold) == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
	l.newest = 0
	for n := range l.open {
		l.newest = max(l.newest, n)
	}
}

// note takes what an event says of the whole.
func (l *sessionList) note(n int, e client.Event) {
	l.mu.Lock()
	switch e.Kind {
	case client.EventMoved:
		l.moved = e.At
	case client.EventNoRoute:
		l.cut = true
	case client.EventRouteBack, client.EventMoving:
		l.cut = false
	}
	l.mu.Unlock()
	if e.Kind == client.EventClosed {
		l.end(n)
	}
}

// line is the status line: network, path, round trip, last move. It looks at the
// newest session, as all of a host's move together.
func (l *sessionList) line(now time.Time) string {
	l.mu.Lock()
	s, open, moved, cut := l.open[l.newest], len(l.open), l.moved, l.cut
	l.mu.Unlock()
	if s == nil {
		return "no session: the next connection opens one"
	}
	info := s.Info()
	parts := []string{fmt.Sprintf("%s %v -> %v", l.network(info.Local.Addr()), info.Local.Addr(), info.Path.Remote)}
	switch {
	case cut:
		parts = append(parts, "waiting for a route")
	case info.Lost != nil || info.Reopening:
		parts = append(parts, "opening another session")
	case info.Silent || info.Racing > 0:
		parts = append(parts, "looking for the server")
	case info.SRTT > 0:
		parts = append(parts, "rtt "+info.SRTT.Round(100*time.Microsecond).String())
	}
	if moved.IsZero() {
		parts = append(parts, "never moved")
	} else {
		parts = append(parts, "moved "+age(now.Sub(moved))+" ago")
	}
	if open > 1 {
		parts = append(parts, fmt.Sprintf("%d sessions", open))
	}
	return strings.Join(parts, "  ")
}

// network names the interface of our address.
func (l *sessionList) network(addr netip.Addr) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if addr != l.asked {
		l.asked, l.name = addr, interfaceOf(addr)
	}
	if l.name == "" {
		return "?"
	}
	return l.name
}
