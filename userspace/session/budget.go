// SPDX-License-Identifier: Apache-2.0

package session

import "github.com/xdp-roam/xdp-roam/userspace/wire"

// amplification bounds what an unproven address gets: this many times what came
// from it (RFC 9000 section 8.1).
const amplification = 3

// probeSize is a packet that carries a CHALLENGE alone.
const probeSize = wire.Overhead + wire.ChallengeLen

// ledger counts the UDP payload bytes of one candidate: received only what
// authenticated and was no duplicate, sent all there is.
type ledger struct {
	received, sent uint64
}

// fits reports whether n more bytes may be sent.
func (l *ledger) fits(n int) bool { return l.sent+uint64(n) <= amplification*l.received }
