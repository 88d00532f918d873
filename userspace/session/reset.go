// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/subtle"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// isReset reports whether a packet that does not open is the server's word that
// it has lost the session: it ends with the reset token of an id that we send on.
// All tokens are compared, in constant time: the time tells nobody which of his
// guesses was closer.
//
// Tokens of other ids do not count. The server may have retired them: whoever has
// seen one on the network can send a packet on it and gets its token for an answer.
func (s *Session) isReset(pkt []byte) bool {
	if s.role != Client || s.state > StateClosing || len(pkt) < wire.MinData {
		return false
	}
	token := pkt[len(pkt)-len(wire.Token{}):]
	equal := 0
	for _, r := range s.remote {
		if s.sendsOn(r) {
			equal |= subtle.ConstantTimeCompare(token, r.Reset[:])
		}
	}
	return equal == 1
}

// sendsOn reports whether r is an id that we send on and that the peer cannot
// have retired: none is newer that carried more than probes.
func (s *Session) sendsOn(r *remoteID) bool {
	if r.Seq < s.sentSeq || r.counter == 0 {
		return false
	}
	if r == s.rid || s.races(r) {
		return true
	}
	for i := range s.candidates {
		if s.candidates[i].rid == r {
			return true
		}
	}
	return false
}

// reset ends the session: there is nobody to say CLOSE to, and nothing that an
// answer of ours could meet but another reset.
func (s *Session) reset(from Path, out *Output) {
	if s.state != StateClosing {
		out.event(Event{Kind: EventReset, Path: from, From: s.path})
	}
	s.end(out)
}
