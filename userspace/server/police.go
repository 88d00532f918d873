// SPDX-License-Identifier: Apache-2.0

package server

import (
	"log/slog"
	"slices"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Packets from a session's own address that do not open, beyond this each second,
// are a flood: someone has seen the id and forges the source. A network damages
// far fewer, and the UDP checksum finds most of those.
const (
	failureRate  = 64
	failureBurst = 256
)

// failures are the packets from the session's own path that did not open.
type failures struct {
	bucket bucket
	// policed are the ids whose slots have the police flag, in a ring as long as a
	// session has live ones: each is left once, whichever of them are flooded in turn.
	policed [8]wire.ID
	last    uint8
}

// police notes an id and reports whether it is a new one.
func (f *failures) police(id wire.ID) bool {
	if slices.Contains(f.policed[:], id) {
		return false
	}
	f.last = (f.last + 1) % uint8(len(f.policed))
	f.policed[f.last] = id
	return true
}

// notOpened counts a forged packet. One from elsewhere was a candidate's, and the
// data plane limits those. A flood from the session's own address would have the
// main lane, which is not limited: the flag puts this id, and no other session,
// under the same limit. The session leaves the id: its client comes along by one of
// its own ids that whoever forges has not seen.
func (s *Session) notOpened(now session.Time, from session.Path, pkt []byte, out *session.Output) {
	if !from.Same(s.state.Path()) || s.past().failures.bucket.take(now, failureRate, failureBurst) {
		return
	}
	_, id, err := wire.ParseData(pkt)
	if err != nil {
		return
	}
	if s.history.failures.police(id) {
		s.policed(now, id, from)
	}
	_ = s.state.Leave(now, id, out) // closed or not confirmed: there is nothing to save
}

func (s *Session) policed(now session.Time, id wire.ID, from session.Path) {
	if err := s.srv.table.SetFlags(id, maps.FlagPolice, true); err != nil {
		s.srv.cfg.Log.Error("an id was not policed", "id", id, "error", err)
		return
	}
	s.srv.totals.policed.Add(1)
	if s.mayTell(now) {
		s.tell("session_policed", s.state.Path().Remote, from.Remote, "a flood under id "+id.String())
		if s.mayLog(now, slog.LevelWarn) {
			s.log(slog.LevelWarn, "session_policed", slog.String("id", id.String()), slog.Any("from", from.Remote))
		}
	}
}
