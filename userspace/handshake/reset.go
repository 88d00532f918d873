// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/rand"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// MaxReset is the longest stateless reset in bytes.
const MaxReset = 48

// AppendReset appends the stateless reset that answers a packet of trigger bytes
// on id: what looks like DATA and ends with the id's reset token. It is shorter
// than its trigger, so that two ends that have both lost a session cannot answer
// each other for ever, and its filler is random. ok is false, and b unchanged,
// for a trigger that is too short to have an answer.
//
// The caller has made sure that id is its own and that no session has it, and
// limits the rate.
func AppendReset(b []byte, resetKey [32]byte, id wire.ID, trigger int) (packet []byte, ok bool) {
	n := min(trigger-1, MaxReset)
	if n < wire.MinData {
		return b, false
	}
	var filler [MaxReset]byte
	_, _ = rand.Read(filler[:]) // never fails
	token := ResetToken(resetKey, id)
	// The length says nothing about the trigger, where it can.
	n -= int(filler[0]) % (n - wire.MinData + 1)
	b = append(b, wire.TypeData)
	b = append(b, filler[1:n-len(token)]...)
	return append(b, token[:]...), true
}
