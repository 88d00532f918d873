// SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// giveUpAt is when an attempt has failed: half of what the next repeat would
	// wait, since a round trip of more than 4 s serves nobody.
	giveUpAt = 12 * time.Second
	// maxCookieAge is when a cookie is left out of the repeats. Servers take them
	// for 10 s.
	maxCookieAge = 8 * time.Second
	// versionsPatience is how long a RESP may still come that proves a VERSIONS
	// wrong: anyone can forge a VERSIONS.
	versionsPatience = time.Second
)

// initAt is when INIT is sent, after the start.
var initAt = [...]time.Duration{0, 1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

// headStart is how long a target of a session that is opened again is ahead of the
// next one (RFC 8305 section 5).
const headStart = 250 * time.Millisecond

// turn is one transmission of INIT: when, and to which target.
type turn struct {
	at     time.Duration
	target int
}

// turns lets n targets take turns, so that one that swallows packets costs a second
// and not the session.
func turns(n int) []turn {
	plan := make([]turn, len(initAt))
	for i, at := range initAt {
		plan[i] = turn{at, i % n}
	}
	return plan
}

// eagerTurns sends to each of n targets once in quick succession, and then in
// turns: for a session that was lost, where the best target was lost with it.
func eagerTurns(n int) []turn {
	plan := make([]turn, 0, n+len(initAt)-1)
	for i := range n {
		plan = append(plan, turn{time.Duration(i) * headStart, i})
	}
	for i, at := range initAt[1:] {
		plan = append(plan, turn{at, i % n})
	}
	slices.SortStableFunc(plan, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
	return plan
}

// target is one way to the server: from one of our sockets to one of its
// addresses.
type target struct {
	socket uint32
	remote netip.AddrPort
	// cookie proves this way's source address, and no other.
	cookie   wire.Cookie
	cookieAt time.Duration
	// mayRetry: an INIT is out that no RETRY has answered. Each answers one, so
	// that nobody can make us send more than twice what we would.
	mayRetry bool
}

// attempt is the client's half of INIT, RETRY, VERSIONS and RESP: packets and
// time in, packets and the outcome out. Times are since its start.
type attempt struct {
	initiator *handshake.Initiator
	targets   []target
	plan      []turn
	sent      int // of plan

	versions   []uint32 // of a VERSIONS without ours; nil: none came
	versionsAt time.Duration
	versionsBy netip.AddrPort
	retried    bool
	unopened   bool
}

// deadline is when tick is due.
func (a *attempt) deadline() time.Duration {
	d := giveUpAt
	if a.sent < len(a.plan) {
		d = a.plan[a.sent].at
	}
	if a.versions != nil {
		d = min(d, a.versionsAt+versionsPatience)
	}
	return d
}

// tick returns the target to send an INIT to, if one is due, or the error that
// ends the attempt.
func (a *attempt) tick(now time.Duration) (*target, error) {
	if a.versions != nil && now >= a.versionsAt+versionsPatience {
		return nil, &VersionError{a.versionsBy, a.versions}
	}
	if t := a.dueNow(now); t != nil {
		a.sent++
		t.due(now)
		return t, nil
	}
	if now >= giveUpAt {
		return nil, a.noAnswer(now, nil)
	}
	return nil, nil
}

// dueNow returns the target that tick would send to.
func (a *attempt) dueNow(now time.Duration) *target {
	if a.sent < len(a.plan) && now >= a.plan[a.sent].at {
		return &a.targets[a.plan[a.sent].target]
	}
	return nil
}

// due prepares a target for another INIT.
func (t *target) due(now time.Duration) {
	t.mayRetry = true
	if now-t.cookieAt > maxCookieAge {
		t.cookie = wire.Cookie{}
	}
}

// hurry puts a target first that has shown signs of life: its INIT is due at once,
// whatever the plan says.
func (a *attempt) hurry(now time.Duration, target int) {
	rest := slices.Clone(a.plan[min(a.sent, len(a.plan)):])
	a.plan = append(append(a.plan[:a.sent:a.sent], turn{now, target}), rest...)
}

// packet returns the INIT for a target. It is valid until the next call.
func (a *attempt) packet(t *target) []byte {
	a.initiator.SetCookie(t.cookie)
	return a.initiator.Packet()
}

// receive takes a packet that came to one of our sockets. It returns the target
// to send an INIT to at once, or the server's reply, or the error that ends the
// attempt, or nothing: whatever is not from the server changes nothing.
func (a *attempt) receive(now time.Duration, socket uint32, from netip.AddrPort, pkt []byte) (*target, *handshake.Reply, error) {
	i := slices.IndexFunc(a.targets, func(t target) bool { return t.socket == socket && t.remote == from })
	if i < 0 || len(pkt) == 0 {
		return nil, nil, nil
	}
	t := &a.targets[i]
	switch pkt[0] {
	case wire.TypeRetry:
		hid, cookie, err := wire.ParseRetry(pkt)
		if err != nil || hid != a.initiator.HandshakeID() || !t.mayRetry || cookie.IsZero() {
			return nil, nil, nil
		}
		a.retried = true
		t.mayRetry = false
		t.cookie, t.cookieAt = cookie, now
		return t, nil, nil
	case wire.TypeVersions:
		hid, list, err := wire.ParseVersions(pkt)
		if err != nil || hid != a.initiator.HandshakeID() || a.versions != nil || list.Len() == 0 || list.Contains(wire.Version1) {
			return nil, nil, nil
		}
		a.versions, a.versionsAt, a.versionsBy = list.AppendTo(nil), now, from
	case wire.TypeResp:
		reply, err := a.initiator.Finish(pkt)
		if errors.Is(err, handshake.ErrNotOpened) {
			hid, _, err := wire.ParseResp(pkt)
			a.unopened = a.unopened || err == nil && hid == a.initiator.HandshakeID()
			return nil, nil, nil
		}
		return nil, reply, err
	}
	return nil, nil, nil
}

// noAnswer makes the error of an attempt that found no server.
func (a *attempt) noAnswer(now time.Duration, cause error) error {
	var servers []netip.AddrPort
	for _, t := range a.targets {
		if !slices.Contains(servers, t.remote) {
			servers = append(servers, t.remote)
		}
	}
	return &NoAnswerError{Servers: servers, After: now, Inits: a.sent, Retried: a.retried, Unopened: a.unopened, Cause: cause}
}
