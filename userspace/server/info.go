// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// SessionInfo is one session as plain values.
type SessionInfo struct {
	// ID names the session for all of its life; Info.LocalID is the id that its
	// packets carry now.
	ID       wire.ID
	PeerKey  handshake.PublicKey
	PeerName string
	Service  uint16
	// Owner is the worker whose sockets get its packets.
	Owner int

	// Wall-clock times; zero where there was none.
	Opened, LastReceived, LastSent time.Time
	MoveStarted, MoveCommitted     time.Time
	MoveRefused, MoveReverted      time.Time

	// Info is the state machine's view: the validated path, the candidates, the
	// ids, the RTT, the traffic in each direction. Its times are on the
	// server's own clock; those above are the same for people.
	session.Info
}

// Info returns the session as plain values.
func (s *Session) Info() SessionInfo {
	s.mu.Lock()
	info := s.state.Info()
	owner := int(s.worker.index)
	s.mu.Unlock()
	wall := func(t session.Time) time.Time {
		if t == 0 {
			return time.Time{}
		}
		return s.srv.clock.wall(t)
	}
	return SessionInfo{
		ID: s.first, PeerKey: s.key, PeerName: s.name, Service: s.service, Owner: owner,
		Opened: wall(info.Started), LastReceived: wall(info.LastReceived), LastSent: wall(info.LastSent),
		MoveStarted: wall(info.Moves.LastStarted), MoveCommitted: wall(info.Moves.LastCommitted),
		MoveRefused: wall(info.Moves.LastRefused), MoveReverted: wall(info.Moves.LastReverted),
		Info: info,
	}
}

// Sessions calls f for each session that carries datagrams until f returns
// false. It stops no one: sessions that come or go meanwhile may be missed.
func (srv *Server) Sessions(f func(SessionInfo) bool) {
	srv.directory.each(func(s *Session) bool {
		info := s.Info()
		return info.State != session.StateOpen || f(info)
	})
}

// Stats is everything that the server has counted since its start.
type Stats struct {
	// Packets is what became of each packet, by reason.
	Packets [NumReasons]uint64
	// DatagramsDropped: their session's reader was too slow.
	DatagramsDropped uint64
	// DatagramsTooLarge: SendDatagram refused them with ErrTooLarge.
	DatagramsTooLarge uint64
	// SendRefused: packets that the kernel did not take, for instance for want of a route.
	SendRefused uint64
	// SentDirect: packets that left by a Queue that sends.
	SentDirect uint64
	// SocketDrops are packets that the kernel dropped, by the lane of the socket that
	// had no room left for them since its worker was too slow (see netio.Conn): a
	// train that the kernel had joined counts once. Workers tells which worker's.
	SocketDrops [maps.LaneHandshake + 1]uint64
	// Queues are those of AddQueue that are read now; QueueDrops is what they, and
	// those before them, lost before any reader saw it.
	Queues     int
	QueueDrops netio.Drops

	// Refused counts refused handshakes by status. Accepted ones are Packets[RespAccepted].
	Refused [wire.StatusFull + 1]uint64
	// Expired: half-open sessions whose client never spoke.
	Expired uint64
	// Opened and Closed count confirmed sessions.
	Opened, Closed uint64
	// AcceptQueueFull: sessions closed because nobody accepted them.
	AcceptQueueFull uint64

	RoamsStarted, RoamsCommitted, RoamsRefused, RoamsReverted uint64
	// Switches is how long committed moves took: from the first packet of the new
	// path to its validation, at the server.
	Switches         Histogram
	ForwardingAlarms uint64

	// PreviousKey: handshakes by a previous key of the server; when there are none
	// any more, its rotation is complete.
	PreviousKey uint64
	// Takeovers: sessions that went to the worker that opens their packets.
	Takeovers uint64
	// Policed: ids whose main lane was put under the candidates' limit, because of
	// packets from the session's own address that do not open.
	Policed uint64
	// LogDropped: log lines that were not written, since the log was too slow or there
	// were too many moves to tell of; events of a session that had too many, too.
	LogDropped uint64
	// OrphansFreed: ids in the table that no session owned.
	OrphansFreed uint64

	// Sessions are those open now, HalfOpen those whose client has not spoken yet.
	Sessions, HalfOpen uint64
	// TableUsed of TableSlots slots hold an id; with TableLimit of them no further one
	// is given out. TableFull: sessions refused for that.
	TableUsed, TableSlots, TableLimit, TableFull uint64
}

func (st *Stats) add(c *counters) {
	for i := range c.packets {
		st.Packets[i] += c.packets[i].Load()
	}
	st.DatagramsDropped += c.datagramsDropped.Load()
	st.DatagramsTooLarge += c.datagramsTooLarge.Load()
	st.SendRefused += c.sendRefused.Load()
	st.SentDirect += c.sentDirect.Load()
}

// Stats returns the counts. Counts of one moment may be a packet apart.
func (srv *Server) Stats() Stats {
	t := &srv.totals
	st := Stats{
		Expired: t.expired.Load(), Closed: t.closed.Load(), Opened: t.opened.Load(),
		AcceptQueueFull: t.acceptQueueFull.Load(),
		RoamsStarted:    t.movesStarted.Load(), RoamsCommitted: t.movesCommitted.Load(),
		RoamsRefused: t.movesRefused.Load(), RoamsReverted: t.movesReverted.Load(),
		ForwardingAlarms: t.forwardingAlarms.Load(), Switches: t.switches.read(),
		PreviousKey: t.previousKey.Load(), Takeovers: t.takeovers.Load(), Policed: t.policed.Load(),
		OrphansFreed: t.orphans.Load(), LogDropped: srv.journal.dropped.Load(),
		HalfOpen:  uint64(srv.attempts.open()),
		TableUsed: uint64(srv.table.Len()), TableSlots: uint64(srv.table.Capacity()), TableLimit: uint64(srv.table.Limit()), TableFull: t.tableFull.Load(),
	}
	st.Sessions = st.Opened - min(st.Closed, st.Opened)
	for i := range t.refused {
		st.Refused[i] = t.refused[i].Load()
	}
	for _, c := range srv.counts {
		st.add(c)
	}
	for _, r := range srv.readers {
		st.SocketDrops[r.lane] += r.conn.Dropped()
	}
	srv.queues.count(&st)
	// Not the fate of a packet, but its way to a handshake worker.
	st.Packets[notCounted] = 0
	return st
}
