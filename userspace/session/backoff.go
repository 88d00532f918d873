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

func (s *Session) backedOff(now Time, p Path) bool {
	for i := range s.backoffs {
		if s.backoffs[i].path.Same(p) {
			return now < s.backoffs[i].until
		}
	}
	return false
}

// backOff begins a back-off, or doubles the period of one that ended less than
// maxBackoff ago.
func (s *Session) backOff(now Time, p Path) {
	slot := -1
	for i := range s.backoffs {
		if b := &s.backoffs[i]; b.path.Same(p) {
			if now < b.until+maxBackoff {
				b.period = min(2*b.period, maxBackoff)
			} else {
				b.period = minBackoff
			}
			b.until = now + b.period
			return
		}
		if slot < 0 || s.backoffs[i].until < s.backoffs[slot].until {
			slot = i
		}
	}
	b := backoff{p, now + minBackoff, minBackoff}
	if len(s.backoffs) < maxBackoffs {
		s.backoffs = append(s.backoffs, b)
		return
	}
	s.backoffs[slot] = b
}
