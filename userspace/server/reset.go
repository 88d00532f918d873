// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// resetRate and resetBurst bound the resets of the server, each second.
const resetRate, resetBurst = 10000, 1000

// reset answers a packet on an id of ours whose session is gone, so that its
// client opens a new one at once and does not wait for answers that never come.
// To anyone else the answer is one more packet of DATA.
func (r *reader) reset(now session.Time, m *netio.Message, id wire.ID) Reason {
	if len(m.Data()) <= wire.MinData {
		return IDGone // nothing shorter would be DATA
	}
	if !r.srv.resets.take(now) {
		return ResetLimit
	}
	r.answer(m, func(b []byte) []byte {
		b, _ = handshake.AppendReset(b, r.srv.keys.resetKey(id), id, len(m.Data()))
		return b
	})
	return ResetSent
}
