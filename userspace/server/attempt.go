// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// attemptLife is how long an INIT is remembered: for so long its repeats get
// the same RESP, and for so long its session may stay half-open.
const attemptLife = 10 * time.Second

// maxAttempts bounds the memory for answers: those of confirmed and of refused
// clients are kept as well. It is some 10,000 handshakes a second.
const maxAttempts = 1 << 17

// attemptKey names one INIT. The source is part of it, so that nobody elsewhere
// can take a handshake id away from its owner.
type attemptKey struct {
	id   wire.ID
	from netip.AddrPort
}

// attempt is one INIT that passed the limits, and its answer.
type attempt struct {
	key       attemptKey
	ephemeral [wire.EphemeralLen]byte
	source    source
	born      time.Duration
	// The lock of attempts guards the rest.
	resp       []byte   // nil until the handshake is done
	session    *Session // nil unless accepted
	halfOpen   bool     // counted as such
	gone       bool     // no longer remembered
	prev, next *attempt // in the order of birth
}

// attempts is the half-open table and the cache of RESPs in one. Everything in
// it lives equally long, so a list in the order of birth is its clock. What is
// forgotten early leaves the list at once: a flood that the handshake workers do
// not keep up with must not pile up for its ten seconds.
type attempts struct {
	mu       sync.Mutex
	limits   Limits
	sources  sources
	of       map[attemptKey]*attempt
	list     attempt // head of the circular list: next is the oldest
	halfOpen int
	unproven int // of them, those whose source is not proven
}

func newAttempts(l Limits) *attempts {
	t := &attempts{limits: l, sources: newSources(l), of: make(map[attemptKey]*attempt)}
	t.list.prev, t.list.next = &t.list, &t.list
	return t
}

// recall looks an INIT up. With a RESP, the INIT is a repeat to be answered by
// it; without, reason says what becomes of the INIT, and 0 that it is a new one.
func (t *attempts) recall(now time.Duration, key attemptKey, ephemeral [wire.EphemeralLen]byte) (resp []byte, reason Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.of[key]
	switch {
	case a == nil || now-a.born >= attemptLife:
		return nil, 0
	case a.ephemeral != ephemeral:
		return nil, InitConflict
	case a.resp == nil:
		return nil, InitPending
	}
	return a.resp, RespRepeated
}

// begin takes up a new INIT, or refuses it with the reason. A refusal changes nothing.
func (t *attempts) begin(now time.Duration, key attemptKey, ephemeral [wire.EphemeralLen]byte, src source) (*attempt, Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[key] != nil {
		// Another goroutine took up the same INIT since recall, or an
		// outlived entry waits for its sweep.
		return nil, InitPending
	}
	if len(t.of) >= maxAttempts || t.halfOpen >= t.limits.HalfOpen || !src.proven && t.unproven >= t.limits.unprovenHalfOpen {
		return nil, HalfOpenLimit
	}
	if !t.sources.open(now, src) {
		return nil, PrefixLimit
	}
	a := &attempt{key: key, ephemeral: ephemeral, source: src, born: now, halfOpen: true}
	t.of[key] = a
	a.prev, a.next = t.list.prev, &t.list
	a.prev.next, t.list.prev = a, a
	t.halfOpen++
	if !src.proven {
		t.unproven++
	}
	return a, 0
}

// answered stores the RESP, and the session where there is one: a refusal leaves
// nothing half-open. It reports whether the attempt still lives.
func (t *attempts) answered(a *attempt, resp []byte, s *Session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.gone {
		return false
	}
	a.resp, a.session = resp, s
	if s == nil {
		t.close(a)
	}
	return true
}

// confirmed says that the attempt's session is no longer half-open. Its RESP
// stays for repeats that are still on their way.
func (t *attempts) confirmed(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.close(a)
}

// forget drops the attempt: it led to no answer, or its session has ended and its
// RESP leads nowhere.
func (t *attempts) forget(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.close(a)
	t.remove(a)
}

// expire drops what has outlived its time and returns the sessions that came of
// it, confirmed or not.
func (t *attempts) expire(now time.Duration) (sessions []*Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for a := t.list.next; a != &t.list && now-a.born >= attemptLife; a = t.list.next {
		if a.session != nil {
			sessions = append(sessions, a.session)
		}
		t.close(a)
		t.remove(a)
	}
	t.sources.sweep(now)
	return sessions
}

// open returns the number of half-open sessions.
func (t *attempts) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.halfOpen
}

func (t *attempts) close(a *attempt) {
	if a.halfOpen {
		a.halfOpen = false
		t.halfOpen--
		if !a.source.proven {
			t.unproven--
		}
		t.sources.closed(a.source)
	}
}

func (t *attempts) remove(a *attempt) {
	if !a.gone {
		a.gone = true
		delete(t.of, a.key)
		a.prev.next, a.next.prev = a.next, a.prev
		a.resp, a.session, a.prev, a.next = nil, nil, nil, nil
	}
}
