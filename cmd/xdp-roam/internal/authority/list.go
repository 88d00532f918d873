// SPDX-License-Identifier: Apache-2.0

// Package authority enforces authorized_keys: it answers who may do what, rereads the
// file when it changes, and reports which sessions the new list no longer admits. A file
// that is wrong changes nothing: the list before it stays.
package authority

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
)

// List is the clients of one authorized_keys. It is safe for concurrent use.
type List struct {
	file     string
	services []config.Service
	inForce  atomic.Pointer[inForce]

	mu    sync.Mutex // one reload at a time; guards state
	state State
}

// inForce is a list and, for each of its keys, what handshakes of it have in common.
// That goes with the key; a list read again does not cost it.
type inForce struct {
	*config.Authorized
	rooms map[handshake.PublicKey]*handshake.Precomputed
}

// State says which list is in force, and what is wrong with the file since.
type State struct {
	File string
	// Clients is how many the list has, Read when it was read.
	Clients int
	Read    time.Time
	// Err is why the file was not taken the last time, nil if it was; Failed is when.
	Err    error
	Failed time.Time
}

// Open reads the list for the first time: a file that is wrong is an error here.
func Open(file string, services []config.Service) (*List, error) {
	l := &List{file: file, services: services}
	if _, err := l.Reload(); err != nil {
		return nil, err
	}
	if err := l.inForce.Load().Check(file); err != nil {
		return nil, err
	}
	return l, nil
}

// Authorize implements server.Config.
func (l *List) Authorize(key handshake.PublicKey, service uint16) server.Access {
	return access(l.inForce.Load().Authorized, key, service)
}

// Precomputed implements server.Config.
func (l *List) Precomputed(key handshake.PublicKey) *handshake.Precomputed {
	return l.inForce.Load().rooms[key]
}

func access(a *config.Authorized, key handshake.PublicKey, service uint16) server.Access {
	client, ok := a.Clients[key]
	if !ok {
		return server.Access{}
	}
	allowed := server.Access{Allowed: client.MayUse(service), Name: client.Name, PSK: client.PSK, Sessions: client.Sessions}
	if !allowed.Allowed {
		allowed.Reason = fmt.Sprintf("%s may not use service %d here", client.Name, service)
	}
	return allowed
}

// Warnings are those of the list in force.
func (l *List) Warnings() []string { return l.inForce.Load().Warnings }

// State returns which list is in force.
func (l *List) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Reload reads the file again. After an error the list before stays in force; a
// file without a key is none: who takes the last client off the list means it. A
// file that looks as if it were still being written takes nothing away: most
// programs truncate it first, and some take long over the rest.
func (l *List) Reload() (Change, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	next, err := config.ReadAuthorized(l.file, l.services)
	if err != nil {
		l.state.Err, l.state.Failed = err, now
		return Change{}, err
	}
	before := l.inForce.Load()
	if before == nil {
		before = &inForce{}
	}
	change := newChange(before.Authorized, next)
	if next.Unended && len(change.Removed)+len(change.Changed) > 0 {
		l.state.Err, l.state.Failed = unended(l.file, change), now
		return Change{}, l.state.Err
	}
	l.inForce.Store(before.followedBy(next))
	l.state = State{File: l.file, Clients: len(next.Clients), Read: now}
	return change, nil
}

// unended says why a list that takes something away is not taken yet.
func unended(file string, c Change) error {
	return fmt.Errorf("%w: %s: it is empty or ends within a line, as while it is written, and %d of the clients are not in it as they were: "+
		"end its last line, or to let nobody in, leave a comment", config.ErrInvalid, file, len(c.Removed)+len(c.Changed))
}

func (f *inForce) followedBy(next *config.Authorized) *inForce {
	rooms := make(map[handshake.PublicKey]*handshake.Precomputed, len(next.Clients))
	for key := range next.Clients {
		if rooms[key] = f.rooms[key]; rooms[key] == nil {
			rooms[key] = new(handshake.Precomputed)
		}
	}
	return &inForce{next, rooms}
}

// Change is the difference between two lists.
type Change struct {
	// Added, Removed and Changed are the names of clients, in order. A client whose
	// line merely moved has not changed.
	Added, Removed, Changed []string

	before, now *config.Authorized
}

func newChange(before, now *config.Authorized) Change {
	c := Change{before: before, now: now}
	if before == nil {
		return c
	}
	for key, client := range now.Clients {
		was, known := before.Clients[key]
		was.Line = client.Line
		switch {
		case !known:
			c.Added = append(c.Added, client.Name)
		case was.Name != client.Name, was.PSK != client.PSK, was.Sessions != client.Sessions,
			(was.Services == nil) != (client.Services == nil), !slices.Equal(was.Services, client.Services):
			c.Changed = append(c.Changed, client.Name)
		}
	}
	for key := range maps.Keys(before.Clients) {
		if _, ok := now.Clients[key]; !ok {
			c.Removed = append(c.Removed, before.Clients[key].Name)
		}
	}
	for _, names := range [][]string{c.Added, c.Removed, c.Changed} {
		slices.Sort(names)
	}
	return c
}

// Empty reports whether the two lists say the same.
func (c Change) Empty() bool { return len(c.Added)+len(c.Removed)+len(c.Changed) == 0 }

// Revoked is for server.Revoke: why a session of the list before ends, in words
// for its client; empty: it goes on.
func (c Change) Revoked(key handshake.PublicKey, service uint16) (reason string) {
	is := access(c.now, key, service)
	switch was, known := c.before.Clients[key]; {
	case !is.Allowed && is.Name == "":
		return "this key was removed from those authorised here"
	case !is.Allowed:
		return is.Reason + " any more"
	case known && was.PSK != is.PSK:
		return "the server has another preshared key for this client now: connect again with that"
	}
	return ""
}
