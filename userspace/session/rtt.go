// SPDX-License-Identifier: Apache-2.0

package session

import "time"

const (
	// initialPTO is the probe timeout before the first sample.
	initialPTO = time.Second
	// minVariation keeps the probe timeout above timer granularity and jitter.
	minVariation = 10 * time.Millisecond
	// maxSample is the longest round trip that one sample can claim. The network can
	// keep a PING or its PONG for as long as it likes, and all that waits hangs on
	// the probe timeout: how soon a loss is noticed, how long a move may take, how
	// long the ids of a closed session stay reserved. It bounds the timeout to
	// maxSample + 4 maxSample. On a path that is slower still, packets are sent again
	// too early, which costs packets and nothing else.
	maxSample = 3 * time.Second
)

// rtt is the smoothed round-trip time of the current path: RFC 9002 section 5.3
// without ack delay, since PONG is sent at once.
type rtt struct {
	smoothed, variation time.Duration
	valid               bool
}

// sample takes one measured round trip.
func (r *rtt) sample(d time.Duration) {
	d = min(max(d, 0), maxSample)
	if !r.valid {
		*r = rtt{smoothed: d, variation: d / 2, valid: true}
		return
	}
	r.variation = (3*r.variation + (r.smoothed - d).Abs()) / 4
	r.smoothed = (7*r.smoothed + d) / 8
}

// pto is the time after which an unanswered packet counts as lost.
func (r *rtt) pto() time.Duration {
	if !r.valid {
		return initialPTO
	}
	return r.smoothed + max(4*r.variation, minVariation)
}

// reset forgets the path: the next one is another.
func (r *rtt) reset() { *r = rtt{} }
