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
	smoothed, variation uint32 // nanoseconds: maxSample fits; smoothed is 0 before the first sample
}

// valid reports whether there was a sample.
func (r *rtt) valid() bool { return r.smoothed != 0 }

// srtt returns the smoothed round-trip time, 0 before the first sample.
func (r *rtt) srtt() time.Duration { return time.Duration(r.smoothed) }

// sample takes one measured round trip.
func (r *rtt) sample(d time.Duration) {
	d = min(max(d, 1), maxSample)
	if !r.valid() {
		*r = rtt{smoothed: uint32(d), variation: uint32(d / 2)}
		return
	}
	r.variation = uint32((3*time.Duration(r.variation) + (r.srtt() - d).Abs()) / 4)
	r.smoothed = uint32((7*r.srtt() + d) / 8) // of two that are not 0, neither is this
}

// pto is the time after which an unanswered packet counts as lost.
func (r *rtt) pto() time.Duration {
	if !r.valid() {
		return initialPTO
	}
	return r.srtt() + max(4*time.Duration(r.variation), minVariation)
}

// reset forgets the path: the next one is another.
func (r *rtt) reset() { *r = rtt{} }
