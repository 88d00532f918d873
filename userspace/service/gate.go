// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// gate counts what a service and each of its clients use.
type gate struct {
	limits Limits
	rate   rate

	mu      sync.Mutex // guards what follows
	total   use
	counts  Use                            // but for what total has
	clients map[handshake.PublicKey]*share // those with a session
}

// use is what is there at a time.
type use struct{ sessions, streams int }

// share is one client's part.
type share struct {
	use
	rate rate
}

func newGate(l Limits) *gate {
	return &gate{limits: l, rate: newRate(l.Rate), clients: make(map[handshake.PublicKey]*share)}
}

func full(n, limit int) bool { return limit > 0 && n >= limit }

// session counts one in, or says why not. Who is let in calls leave, once.
func (g *gate) session(key handshake.PublicKey) (leave func(), refusal string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.clients[key]
	if s == nil {
		s = &share{rate: newRate(g.limits.ClientRate)}
	}
	switch {
	case full(g.total.sessions, g.limits.Sessions):
		refusal = fmt.Sprintf("the service has its %d sessions already; try again later", g.limits.Sessions)
	case full(s.sessions, g.limits.ClientSessions):
		refusal = fmt.Sprintf("your key has its %d sessions with the service already: end one first", g.limits.ClientSessions)
	}
	if refusal != "" {
		g.counts.SessionsRefused++
		return nil, refusal
	}
	g.counts.SessionsServed++
	g.clients[key] = s
	s.sessions++
	g.total.sessions++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.total.sessions--
		if s.sessions--; s.sessions == 0 {
			delete(g.clients, key)
		}
	}, ""
}

// stream counts one in, of a client that has a session, or says why not.
func (g *gate) stream(key handshake.PublicKey) (leave func(), refusal string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.clients[key]
	switch {
	case full(g.total.streams, g.limits.Streams):
		refusal = fmt.Sprintf("the service has its %d connections already; try again later", g.limits.Streams)
	case full(s.streams, g.limits.ClientStreams):
		refusal = fmt.Sprintf("your key has its %d connections with the service already: end one first", g.limits.ClientStreams)
	}
	if refusal != "" {
		g.counts.StreamsRefused++
		return nil, refusal
	}
	g.counts.StreamsServed++
	s.streams++
	g.total.streams++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		s.streams--
		g.total.streams--
	}, ""
}

// rates are those that a session's bytes count in; nil: none is limited. The
// client's own comes first: what that refuses must not use up the service's, or one
// client that sends without end would take away what the others may have.
func (g *gate) rates(key handshake.PublicKey) []*rate {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*rate
	if g.limits.ClientRate > 0 {
		all = append(all, &g.clients[key].rate)
	}
	if g.limits.Rate > 0 {
		all = append(all, &g.rate)
	}
	return all
}

// rate limits the bytes a second of each direction.
type rate struct{ toService, toClient bucket }

func newRate(perSecond int64) rate {
	return rate{toService: bucket{perSecond: perSecond}, toClient: bucket{perSecond: perSecond}}
}

// bucket spaces bytes out (GCRA): full is when all that was taken will have been
// paid for.
type bucket struct {
	perSecond int64

	mu   sync.Mutex
	full time.Time
}

// burst is how far ahead of its rate a bucket may run.
const burst = 100 * time.Millisecond

// take takes n bytes and returns how long they must wait.
func (b *bucket) take(n int, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(n, now)
	return max(0, b.full.Sub(now)-burst)
}

// allow takes n bytes if they need not wait. One datagram always may, after a
// pause that is long enough, whatever its size.
func (b *bucket) allow(n int, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full.Sub(now) > burst {
		return false
	}
	b.advance(n, now)
	return true
}

func (b *bucket) advance(n int, now time.Time) {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(time.Duration(float64(n) / float64(b.perSecond) * float64(time.Second)))
}

// throttled is a session whose datagrams beyond the rates are lost.
type throttled struct {
	Conn
	rates []*rate
}

func (t throttled) SendDatagram(p []byte) error {
	now := time.Now()
	for _, r := range t.rates {
		if !r.toClient.allow(len(p), now) {
			return t.Err()
		}
	}
	return t.Conn.SendDatagram(p)
}

// SendDatagrams drops what is beyond the rates and keeps the order of the rest; n
// counts the dropped ones as sent.
func (t throttled) SendDatagrams(ds [][]byte) (n int, err error) {
	if len(t.rates) == 0 {
		return t.Conn.SendDatagrams(ds)
	}
	for i, p := range ds {
		if err := t.SendDatagram(p); err != nil {
			return i, err
		}
	}
	return len(ds), nil
}

// mayPass tells whether a datagram that came is handed on.
func (t throttled) mayPass(n int) bool {
	if len(t.rates) == 0 {
		return true
	}
	now := time.Now()
	for _, r := range t.rates {
		if !r.toService.allow(n, now) {
			return false
		}
	}
	return true
}
