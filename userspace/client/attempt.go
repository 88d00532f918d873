// SPDX-License-Identifier: Apache-2.0

package client

import (
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
	// targets take turns, so that one that swallows packets costs a second and not
	// the session.
	targets []target
	sent    int // of initAt

	versions   []uint32 // of a VERSIONS without ours; nil: none came
	versionsAt time.Duration
	versionsBy netip.AddrPort
	retried    bool
	unopened   bool
}

// deadline is when tick is due.
func (a *attempt) deadline() time.Duration {
	d := giveUpAt
	if a.sent < len(initAt) {
		d = initAt[a.sent]
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
	if a.sent < len(initAt) && now >= initAt[a.sent] {
		t := &a.targets[a.sent%len(a.targets)]
		a.sent++
		t.mayRetry = true
		if now-t.cookieAt > maxCookieAge {
			t.cookie = wire.Cookie{}
		}
		return t, nil
	}
	if now >= giveUpAt {
		return nil, a.noAnswer(now, nil)
	}
	return nil, nil
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
	servers := make([]netip.AddrPort, len(a.targets))
	for i, t := range a.targets {
		servers[i] = t.remote
	}
	return &NoAnswerError{Servers: servers, After: now, Inits: a.sent, Retried: a.retried, Unopened: a.unopened, Cause: cause}
}
