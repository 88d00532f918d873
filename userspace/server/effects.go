// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	kindROAM = maps.KindROAM
	tagLive  = maps.TagLive
)

// settle carries out what calls on the state asked for, all but the packets,
// which stay in out for the caller to send, and arms the timer. The caller
// holds s.mu and calls it after every call on the state; a run of Receive may do
// with one call at its end if each was of datagrams alone.
func (s *Session) settle(now session.Time, out *session.Output, c *counters) {
	s.deliver(out, c)
	for i := range out.Commits {
		s.commit(&out.Commits[i])
	}
	for i := 0; i < len(out.Events); i++ { // an event may cause others
		e := out.Events[i] // what s.event adds may move them
		s.event(now, &e, out)
	}
	out.Commits, out.Events, out.Rearm = out.Commits[:0], out.Events[:0], false
	s.arm()
}

// deliver puts the datagrams of out into the inbox.
func (s *Session) deliver(out *session.Output, c *counters) {
	if len(out.Datagrams) == 0 && out.Room == nil {
		return
	}
	if dropped := s.inbox.Push(out.Datagrams...); dropped > 0 {
		c.datagramsDropped.Add(uint64(dropped))
	}
	out.Datagrams, out.Room = out.Datagrams[:0], nil
}

// arm makes the wheel fire at the state's deadline, or before.
func (s *Session) arm() {
	if at, ok := s.state.Deadline(); ok && (s.armedFor == 0 || at < s.armedFor) {
		s.armedFor = at
		s.worker.wheel.arm(s, at)
	}
}

// commit is the only place where a path comes into a slot.
func (s *Session) commit(c *session.Commit) {
	s.srv.lost.use(c.Path.Local.Addr())
	err := s.srv.table.Commit(c.ID, c.Path.Remote)
	if err != nil && !errors.Is(err, maps.ErrNoSession) { // retired in the same breath
		s.srv.cfg.Log.Error("a path was not committed", "session", s.first.String(), "path", c.Path.Remote, "error", err)
	}
}

func (s *Session) event(now session.Time, e *session.Event, out *session.Output) {
	t := &s.srv.totals
	switch e.Kind {
	case session.EventConfirmed:
		s.confirmed(now, out)
	case session.EventMoveStarted:
		t.movesStarted.Add(1)
		s.logMove(now, "roam_started", e)
	case session.EventMoveCommitted:
		t.movesCommitted.Add(1)
		t.switches.observe(e.Took)
		s.counted(e.Path.Remote.Addr())
		s.logMove(now, "roam_committed", e)
	case session.EventMoveRefused:
		t.movesRefused.Add(1)
		s.logMove(now, "roam_refused", e)
	case session.EventMoveReverted:
		t.movesReverted.Add(1)
		s.counted(e.Path.Remote.Addr())
		s.logMove(now, "roam_reverted", e)
	case session.EventForwardingAlarm:
		t.forwardingAlarms.Add(1)
		if !s.mayTell(now) {
			break
		}
		s.tell("forwarding_alarm", e.Path.Remote, e.From.Remote, "")
		if s.mayLog(now, slog.LevelWarn) {
			s.log(slog.LevelWarn, "forwarding_alarm", slog.Any("path", e.Path.Remote), slog.Any("current", e.From.Remote))
		}
	case session.EventClosed:
		s.closed(&ClosedError{Code: e.Code, Reason: e.Text, Remote: e.Remote})
	case session.EventEnded:
		s.worker.wheel.disarm(s)
		if s.capped != (prefix{}) { // until now, for as long as it holds slots
			s.srv.caps.remove(s.key, s.capped)
			s.capped = prefix{}
		}
		s.srv.directory.remove(s.number)
		s.endTaps()
	}
}

// confirmed lets the session in, unless there are too many.
func (s *Session) confirmed(now session.Time, out *session.Output) {
	srv := s.srv
	s.stage = heard
	if s.attempt != nil {
		srv.attempts.confirmed(s.attempt)
	}
	network := makePrefix(s.state.Path().Remote.Addr(), sessionPrefixBits)
	access, no := s.stillAllowed()
	if no == nil {
		if text := srv.caps.add(s.key, network, access.Sessions); text != "" {
			no = overLimit(text)
		}
	}
	if no != nil {
		srv.tellRefusal(no, s.state.Path().Remote, s.name, s.key, s.service)
		s.state.Close(now, no.code, no.text, out)
		return
	}
	s.capped = network
	select {
	case srv.accepted <- s:
		s.stage = letIn
	default:
		srv.totals.acceptQueueFull.Add(1)
		s.state.Close(now, wire.CloseLimit, "the server does not keep up with new sessions", out)
		return
	}
	srv.totals.opened.Add(1)
	if addrs := srv.addrs.Load(); s.told != addrs { // changed since RESP
		_ = s.state.SetAddrs(now, *addrs, out) // it is confirmed, so this succeeds
	}
	s.told = nil
	s.tell("session_opened", s.state.Path().Remote, netip.AddrPort{}, "")
	s.log(slog.LevelInfo, "session_opened", slog.Any("remote", s.state.Path().Remote), slog.String("peer", s.name),
		slog.Any("peer_key", s.key), slog.Int("service", int(s.service)))
}

// counted counts the session in the network that it is in now.
func (s *Session) counted(addr netip.Addr) {
	if s.capped != (prefix{}) {
		network := makePrefix(addr, sessionPrefixBits)
		s.srv.caps.move(s.capped, network)
		s.capped = network
	}
}

// closed ends the session for its reader. In the caps it counts until its slots
// are free, or a client that opens and closes would hold more than they allow.
func (s *Session) closed(err *ClosedError) {
	if s.err != nil {
		return
	}
	s.err = err
	s.inbox.Close(err)
	if s.history != nil && s.history.done != nil {
		close(s.history.done)
	}
	if s.attempt != nil {
		s.srv.attempts.forget(s.attempt)
		s.attempt = nil
	}
	if s.stage < heard {
		s.srv.totals.expired.Add(1)
		s.logUnheard(err)
	}
	if s.stage < letIn {
		return // never let in
	}
	s.srv.totals.closed.Add(1)
	s.tell("session_closed", s.state.Path().Remote, netip.AddrPort{}, closedBecause(err))
	s.log(slog.LevelInfo, "session_closed", slog.String("peer", s.name), slog.String("code", err.Code.String()),
		slog.String("reason", err.Reason), slog.Bool("by_client", err.Remote))
}

// logUnheard tells of a client that took no notice of RESP, which is all that the
// server sees of another preshared key.
func (s *Session) logUnheard(err *ClosedError) {
	if err.Code == wire.CloseIdle && err.Reason != "" && s.srv.refusals.take(s.srv.clock.now()) {
		s.tell("session_unconfirmed", s.state.Path().Remote, netip.AddrPort{}, err.Reason)
		s.log(slog.LevelInfo, "session_unconfirmed", slog.Any("remote", s.state.Path().Remote), slog.String("peer", s.name),
			slog.Any("peer_key", s.key), slog.String("reason", err.Reason),
			slog.String("fix", "see whether both ends have the same preshared key, and whether packets reach the client"))
	}
}

// discard ends a half-open session that nobody will hear of.
func (s *Session) discard(c *counters) {
	var out session.Output
	now := s.srv.clock.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Close(now, wire.CloseIdle, "", &out)
	s.settle(now, &out, c)
}

func (s *Session) logMove(now session.Time, name string, e *session.Event) {
	if !s.mayTell(now) {
		return // spares the work: there may be 100,000 a second
	}
	reason := ""
	if e.Kind == session.EventMoveRefused {
		reason = snake(e.Reason.String())
	}
	s.tell(name, e.Path.Remote, e.From.Remote, reason)
	if !s.mayLog(now, slog.LevelInfo) {
		return
	}
	attrs := []slog.Attr{slog.Any("path", e.Path.Remote), slog.Any("from", e.From.Remote)}
	if reason != "" {
		attrs = append(attrs, slog.String("reason", reason))
	}
	s.log(slog.LevelInfo, name, attrs...)
}

func (s *Session) log(level slog.Level, name string, attrs ...slog.Attr) {
	s.srv.cfg.Log.LogAttrs(context.Background(), level, name, append([]slog.Attr{slog.String("session", s.first.String())}, attrs...)...)
}
