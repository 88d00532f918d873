// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/rand"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// resetRate and resetBurst bound the resets of the server, each second.
	resetRate, resetBurst = 10000, 1000
	// maxReset and minReset are the lengths of a reset.
	maxReset = 48
	minReset = wire.HeaderLen + 1 + wire.TagLen
)

// reset answers a packet on an id of ours whose session is gone, so that its
// client opens a new one at once and does not wait for answers that never come.
// To anyone else the answer is one more packet of DATA; it is shorter than the
// trigger, so that two ends that have both forgotten each other come to an end.
func (r *reader) reset(now session.Time, m *netio.Message, id wire.ID) Reason {
	length := min(maxReset, len(m.Data())-1)
	if length < minReset {
		return IDGone
	}
	if !r.srv.resets.take(now) {
		return ResetLimit
	}
	token := r.srv.keys.resetToken(id)
	r.answer(m, func(b []byte) []byte {
		from := len(b)
		b = append(b, make([]byte, length-len(token))...)
		_, _ = rand.Read(b[from:]) // never fails
		b[from] = wire.TypeData
		return append(b, token[:]...)
	})
	return ResetSent
}
