// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Traced is a packet of a traced session at one of the stages that it met, as it
// is on the wire: what is encrypted there is encrypted here.
type Traced struct {
	Time time.Time
	// Stage is TraceServer or one of the data plane's, "xdp" and "socket".
	Stage string
	// Verdict and Reason are those of the stage's counters. A packet that the server
	// sends has TraceSend, and as its reason whether it goes where the session is
	// ("main") or to another address ("elsewhere").
	Verdict, Reason string
	// Remote is the client's end, Local the server's.
	Remote, Local netip.AddrPort
	ID            wire.ID // that the packet carries
	// Ifindex and Queue are known of stage "xdp".
	Ifindex, Queue int
	// Length is that of the UDP payload.
	Length int
	// Total is the length of what Data is the beginning of: the frame at stage "xdp",
	// the IP packet at "socket", the UDP payload at TraceServer. Data is valid until
	// the tap returns.
	Total int
	Data  []byte
}

// Stages of a Traced that the server itself reports.
const (
	TraceServer = "server"
	TraceSend   = "send"
)

// tracing is whether anyone looks at a session's packets.
type tracing uint8

const (
	untraced  tracing = iota
	traced            // history has taps
	traceOver         // every id is retired
)

// tap is one who looks at a session's packets.
type tap struct {
	f func(*Traced)
}

// Trace has f called with each of the session's packets at each stage that it meets,
// from now on until stop is called, and with nil when the session has ended. Calls
// come one at a time, with the session held up meanwhile: f waits for nothing and
// calls no method of the session. The data plane shows no more than a certain number
// each second.
func (s *Session) Trace(f func(*Traced)) (stop func()) {
	t := &tap{f}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tracing == traceOver {
		f(nil)
		return func() {}
	}
	h := s.past()
	h.taps = append(h.taps, t)
	s.setTraced(true)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.taps = slices.DeleteFunc(h.taps, func(o *tap) bool { return o == t })
		s.setTraced(len(h.taps) > 0)
	}
}

// setTraced asks the data plane for the packets of all the session's ids, or no
// longer. Ids that are issued later get the flag when they are. The caller holds s.mu.
func (s *Session) setTraced(on bool) {
	if s.tracing == traceOver || on == (s.tracing == traced) {
		return
	}
	s.tracing = untraced
	if on {
		s.tracing = traced
	}
	s.state.LocalIDs(func(id wire.ID) { s.flagID(id) })
}

func (s *Session) flagID(id wire.ID) {
	err := s.srv.table.SetFlags(id, maps.FlagTrace, s.tracing == traced)
	if err != nil && !errors.Is(err, maps.ErrNoSession) { // its last ids go one by one
		s.srv.cfg.Log.Error("an id was not flagged for tracing", "id", id, "error", err)
	}
}

func (s *Session) show(t *Traced) {
	if s.tracing == traced {
		for _, to := range s.history.taps {
			to.f(t)
		}
	}
}

// endTaps tells whoever looks that there is nothing more. The caller holds s.mu.
func (s *Session) endTaps() {
	s.show(nil)
	s.tracing = traceOver
}

// showReceived shows a packet that the session was given, which pkt is a copy of. The
// caller holds s.mu.
func (s *Session) showReceived(now session.Time, m *netio.Message, pkt []byte, reason session.Reason) {
	became := ofSession[reason]
	s.showOwn(now, m.Remote, m.Local, pkt, became.Verdict().String(), became.String())
}

// showSent shows packets that the session sends. The caller holds s.mu.
func (s *Session) showSent(added []session.Packet) {
	home, now := s.state.Path(), s.srv.clock.now()
	for i := range added {
		p, reason := &added[i], "elsewhere"
		if p.Path.Same(home) {
			reason = "main"
		}
		s.showOwn(now, p.Path.Remote, p.Path.Local, p.Data, TraceSend, reason)
	}
}

func (s *Session) showOwn(now session.Time, remote, local netip.AddrPort, pkt []byte, verdict, reason string) {
	_, id, _ := wire.ParseData(pkt) // what is none has none
	local = netip.AddrPortFrom(local.Addr(), s.srv.addr.Port())
	s.show(&Traced{
		Time: s.srv.clock.wall(now), Stage: TraceServer, Verdict: verdict, Reason: reason, Remote: remote, Local: local,
		ID: id, Length: len(pkt), Total: len(pkt), Data: pkt,
	})
}

// readTraces hands what the data plane shows of traced sessions to those who look,
// until the reader is closed.
func (srv *Server) readTraces(r *maps.TraceReader) {
	for {
		t, err := r.Read()
		if errors.Is(err, maps.ErrClosed) {
			return
		}
		if err != nil {
			srv.cfg.Log.Error("the data plane's part of traces cannot be shown any more", "error", err)
			return
		}
		srv.traced(&t)
	}
}

func (srv *Server) traced(t *maps.Trace) {
	id := wire.ID(t.ID)
	slot, live := srv.table.Lookup((*maps.ID)(&id))
	if !live {
		return // retired meanwhile
	}
	s := srv.directory.at(slot)
	if s == nil {
		return
	}
	shown := &Traced{
		Time: srv.clock.wall(t.Since - srv.clock.mono), Stage: t.Stage.String(), Verdict: t.Reason.Verdict(t.Stage).String(), Reason: t.Reason.String(),
		Remote: t.Src, Local: t.Dst, ID: id, Ifindex: t.Ifindex, Queue: t.Queue, Length: t.Length, Total: t.Total, Data: t.Data,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.show(shown)
}

// startTraces reads the data plane's part of traces, where there is a data plane.
func (srv *Server) startTraces() error {
	if srv.cfg.Maps == nil {
		return nil
	}
	r, err := srv.cfg.Maps.Trace()
	if err != nil {
		return err
	}
	srv.traces = r
	srv.tracesWG.Go(func() { srv.readTraces(r) })
	return nil
}

func (srv *Server) endTraces() {
	if srv.traces != nil {
		srv.traces.Close()
		srv.tracesWG.Wait()
	}
}
