// SPDX-License-Identifier: Apache-2.0

package server

import "github.com/xdp-roam/xdp-roam/userspace/wire"

// EachSession calls f for each session, also those that are not open yet or are
// closed already, until f returns false. It stops no one: sessions that come or go
// meanwhile may be missed.
func (srv *Server) EachSession(f func(*Session) bool) { srv.directory.each(f) }

// IDs returns the live ids of the session: its client may send on any of them.
func (s *Session) IDs() []wire.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []wire.ID
	s.state.LocalIDs(func(id wire.ID) { ids = append(ids, id) })
	return ids
}

// SessionOf returns the id that names the session which a packet with this id would
// be of, or zero where there is none.
func (srv *Server) SessionOf(id wire.ID) wire.ID {
	slot, tag := srv.table.Find(id)
	if tag != tagLive {
		return wire.ID{}
	}
	s := srv.directory.at(slot)
	if s == nil {
		return wire.ID{}
	}
	return s.first
}
