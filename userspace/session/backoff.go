// SPDX-License-Identifier: Apache-2.0

package session

import "time"

const (
	minBackoff = 10 * time.Second
	maxBackoff = 60 * time.Second
	// maxBackoffs addresses are remembered. More can lose only as fast as the peer
	// answers challenges, and a forgotten one merely has to lose again.
	maxBackoffs = 4
)

// backoff keeps an address that lost against a still preferred path from being a
// candidate for a while.
type backoff struct {
	path   Path
	until  Time
	period time.Duration
}

// backedOffs returns all of them.
func (s *Session) backedOffs() []backoff {
	if s.backoffs == nil {
		return nil
	}
	return *s.backoffs
}

func (s *Session) backedOff(now Time, p Path) bool {
	for _, b := range s.backedOffs() {
		if b.path.Same(p) {
			return now < b.until
		}
	}
	return false
}

// backOff begins a back-off, or doubles the period of one that ended less than
// maxBackoff ago.
func (s *Session) backOff(now Time, p Path) {
	all := s.backedOffs()
	slot := -1
	for i := range all {
		if b := &all[i]; b.path.Same(p) {
			if now < b.until+maxBackoff {
				b.period = min(2*b.period, maxBackoff)
			} else {
				b.period = minBackoff
			}
			b.until = now + b.period
			return
		}
		if slot < 0 || all[i].until < all[slot].until {
			slot = i
		}
	}
	b := backoff{p, now + minBackoff, minBackoff}
	if len(all) < maxBackoffs {
		all = append(all, b)
		s.backoffs = &all
		return
	}
	all[slot] = b
}
