// SPDX-License-Identifier: Apache-2.0

package stream

import "sync/atomic"

// The windows bound what a peer can make us hold. They grow to the maximum while a
// reader keeps up and never for one that does not, so a stalled stream holds what it
// had. 1 Gbit/s over 100 ms are 12.5 MB, which one stream can fill (and quic-go's
// largest congestion window, 10,000 packets, just fits).
const (
	maxStreamWindow = 16 << 20
	maxWindow       = 32 << 20
)

// first are the windows that a connection begins with, in bytes: of each stream, and
// of all together.
type first struct{ stream, connection uint64 }

var (
	// A client has the few sessions that it opens itself, and programs behind it that
	// stop reading for hours: 32 streams must stall before they hold up the others.
	clientFirst = first{stream: 256 << 10, connection: 8 << 20}
	// A server has as many connections as its clients like, and owes each no more than
	// a beginning: what is beyond comes out of the budget. All streams of a session
	// have the same backend, so one that stops reading holds up nobody else's.
	serverFirst = first{stream: 64 << 10, connection: 256 << 10}
)

// budget is what the windows of many connections may grow by.
type budget struct {
	size  int64 // bytes
	taken atomic.Int64
}

// process is the budget of all connections.
var process = budget{size: 1 << 30}

// share is the part of what is left that one connection may have at most. So a few
// that take all they can leave something to those that come later (the dynamic
// thresholds of A. Choudhury and E. Hahne, IEEE/ACM Transactions on Networking 6(2)).
const share = 16

// allowance is what one connection has of a budget.
type allowance struct {
	of    *budget
	taken atomic.Int64
}

// take takes delta bytes, or nothing.
func (a *allowance) take(delta uint64) bool {
	n := int64(delta)
	mine := a.taken.Add(n)
	all := a.of.taken.Add(n)
	if mine > (a.of.size-(all-mine))/share {
		a.of.taken.Add(-n)
		a.taken.Add(-n)
		return false
	}
	return true
}

// release gives back what was taken. Nothing may be taken any more.
func (a *allowance) release() { a.of.taken.Add(-a.taken.Swap(0)) }
