// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// EventKind says what happened to a session.
type EventKind uint8

// The events.
const (
	// EventConfirmed: the server's first packet opened; both ends have the session.
	EventConfirmed EventKind = iota + 1
	// EventMoving: the session sends from To now, where it sent from From before.
	EventMoving
	// EventMoved: the server was heard on To.
	EventMoved
	// EventNoRoute: there is no route to any address of the server; the session
	// waits for one. Err says what the system said.
	EventNoRoute
	// EventRouteBack: after EventNoRoute there is a route again, and the address is
	// the one before.
	EventRouteBack
	// EventMoveFailed: the system offers another address, but no socket can be
	// opened there yet; it is tried again. Err says why.
	EventMoveFailed
	// EventObserved: the server sees us at Addr.
	EventObserved
	// EventForwardingAlarm: someone forwards or replays the server's packets, from
	// To.Remote.
	EventForwardingAlarm
	// EventSilent: nothing is received from the server any more; the session probes all
	// paths that it knows. EventMoving, EventHeard or EventReopening follows.
	EventSilent
	// EventHeard: after EventSilent the server was heard again, on the way before.
	EventHeard
	// EventClockJump: the machine was suspended, so the session probes its paths again.
	EventClockJump
	// EventReopening: the session is lost, or nothing answers on any way: another one
	// is being opened in its place. Err says why. If the server is heard meanwhile
	// and the session was not lost, it goes on, as EventHeard or EventMoved tells.
	EventReopening
	// EventReopenFailed: it could not be opened yet; it is tried again. Err says why.
	EventReopenFailed
	// EventReopened: there is a new session with the server in the place of the
	// other. Datagrams that were under way are lost, and the server's side does not
	// know what the two have to do with each other. Generation is the new one's.
	EventReopened
	// EventClosed: the session is over; Err says why. It is the last one.
	EventClosed
)

var eventNames = [...]string{
	EventConfirmed:       "confirmed",
	EventMoving:          "moving",
	EventMoved:           "moved",
	EventNoRoute:         "no-route",
	EventRouteBack:       "route-back",
	EventMoveFailed:      "move-failed",
	EventObserved:        "observed-address",
	EventForwardingAlarm: "forwarding-alarm",
	EventSilent:          "silent",
	EventHeard:           "heard-again",
	EventClockJump:       "clock-jump",
	EventReopening:       "reopening",
	EventReopenFailed:    "reopen-failed",
	EventReopened:        "reopened",
	EventClosed:          "closed",
}

// String returns the name that log lines use.
func (k EventKind) String() string {
	if int(k) < len(eventNames) && eventNames[k] != "" {
		return eventNames[k]
	}
	return "unknown"
}

// Endpoints are the two ends of a path: our address and the server's.
type Endpoints struct{ Local, Remote netip.AddrPort }

// Event is something that an application may want to show. Which fields mean
// anything is said with the kind.
type Event struct {
	Kind     EventKind
	At       time.Time
	From, To Endpoints
	Addr     netip.AddrPort
	Err      error
	// Generation is the session's, with EventReopened.
	Generation uint32

	id string // of the session, for the log
}

// log writes the event under its own name.
func (e Event) log(l *slog.Logger) {
	level := slog.LevelInfo
	switch e.Kind {
	case EventNoRoute, EventMoveFailed, EventForwardingAlarm, EventSilent, EventReopening, EventReopenFailed:
		level = slog.LevelWarn
	case EventObserved, EventConfirmed:
		level = slog.LevelDebug
	}
	if !l.Enabled(context.Background(), level) {
		return
	}
	var attrs []slog.Attr
	addr := func(key string, a netip.AddrPort) {
		if a.IsValid() {
			attrs = append(attrs, slog.String(key, a.String()))
		}
	}
	addr("from", e.From.Local)
	addr("to", e.To.Local)
	addr("server", e.To.Remote)
	addr("observed", e.Addr)
	if e.Generation != 0 {
		attrs = append(attrs, slog.Uint64("generation", uint64(e.Generation)), slog.String("id", e.id))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("cause", e.Err.Error()))
	}
	l.LogAttrs(context.Background(), level, e.Kind.String(), attrs...)
}

// teller hands events to the application in order. It has a goroutine only while
// there is something to tell, so that it neither holds up the session nor
// outlives it.
type teller struct {
	tell func(Event)

	mu      sync.Mutex
	queue   []Event
	running bool
}

// maxUntold bounds what waits for an application that does not come back from
// OnEvent. The oldest are given up; the newest say how things are now.
const maxUntold = 256

func (t *teller) add(events []Event) {
	if t.tell == nil || len(events) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, events...)
	if over := len(t.queue) - maxUntold; over > 0 {
		t.queue = append(t.queue[:0], t.queue[over:]...)
	}
	if !t.running {
		t.running = true
		go t.run()
	}
}

func (t *teller) run() {
	for {
		t.mu.Lock()
		if len(t.queue) == 0 {
			t.running = false
			t.mu.Unlock()
			return
		}
		e := t.queue[0]
		t.queue = t.queue[1:]
		t.mu.Unlock()
		t.tell(e)
	}
}
