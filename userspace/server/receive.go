// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"unsafe"

	"github.com/xdp-roam/xdp-roam/internal/prefetch"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// notCounted stands for a packet that was passed on inside the server and is
// counted where its story ends.
const notCounted Reason = 0

// packet tells protocols apart by the first byte (RFC 7983, RFC 9443) and
// returns what became of a packet that is not DATA of a live session.
func (r *reader) packet(now session.Time, m *netio.Message) Reason {
	pkt := m.Data()
	switch {
	case len(pkt) == 0 || len(pkt) > wire.MaxPacket:
		return Truncated // the rooms of a socket with GRO hold longer ones than we take
	case m.Remote.Port() == 0:
		return SourcePortZero
	}
	switch first := pkt[0]; {
	case first == wire.TypeData:
		return r.stray(now, m)
	case first == wire.TypeInit:
		return r.handshake(now, m)
	case first == wire.TypeRetry, first == wire.TypeResp, first == wire.TypeVersions:
		return WrongDirection
	case first > wire.TypeData && first <= wire.TypeGrease:
		return Grease
	case first >= 20 && first <= 63:
		return DTLS
	case first >= 64 && first <= 127, first >= 192:
		return QUIC
	}
	return UnknownProtocol
}

// deliverAt datagrams of a session are put into its inbox together: enough to share
// a lock, few enough that large ones are still in the nearest cache.
const deliverAt = 8

// worthRoom is from how many bytes on it is worth the way to the inbox to have packets
// opened there, instead of copied.
const worthRoom = 2048

// roomFor is how many bytes of the inbox the next packets of a session may fill until
// they are delivered.
func roomFor(in []netio.Message) (n int) {
	for i := range in[:min(len(in), deliverAt)] {
		n += in[i].N
	}
	return n
}

// Its records are what a session leaves between the datagrams that it opens there.
var _ = [1]struct{}{}[inbox.Headroom-session.RoomGap]

// data lets a session open packets of its own that came one after the other, and
// does what comes of them. Mostly that is datagrams: these it delivers together.
func (r *reader) data(now session.Time, in []netio.Message, s *Session) {
	s.mu.Lock()
	if s.tracing == traced {
		r.openTraced(now, in, s)
	} else {
		r.open(now, in, s)
	}
	s.deliver(&r.snd.out, r.counts)
	r.snd.address(s)
	s.mu.Unlock()
}

// open lets a session open packets, and returns what became of the last.
func (r *reader) open(now session.Time, in []netio.Message, s *Session) (reason session.Reason) {
	out := &r.snd.out
	for i := range in {
		m := &in[i]
		r.expect(in[i+1:])
		if i%deliverAt == 0 && len(out.Datagrams) == 0 && out.Room == nil {
			if n := roomFor(in[i:]); n >= worthRoom {
				out.Room = s.inbox.Reserve(n)
			}
		}
		path := session.Path{Remote: m.Remote, Local: m.Local}
		reason = s.state.Receive(now, path, m.Data(), out)
		r.tally.add(ofSession[reason], r.counts)
		if reason == session.AuthFailed {
			s.notOpened(now, path, m.Data(), out)
		} else {
			s.opened(now, r.worker, reason)
		}
		if r.via != nil || s.history != nil && s.history.way != nil {
			s.learn(r.via, m, reason)
		}
		if out.Rearm || len(out.Events) > 0 {
			s.settle(now, out, r.counts)
		} else if len(out.Datagrams) >= deliverAt {
			s.deliver(out, r.counts)
		}
	}
	return reason
}

// expect asks for all of the packet that comes next, if another CPU has just written
// it: it arrives while this one is decrypted.
func (r *reader) expect(in []netio.Message) {
	if r.via != nil && len(in) > 0 {
		next := in[0].Data()
		prefetch.Bytes(unsafe.Pointer(unsafe.SliceData(next)), uintptr(len(next)))
	}
}

// openTraced is open for a session whose packets someone looks at.
func (r *reader) openTraced(now session.Time, in []netio.Message, s *Session) {
	for i := range in {
		pkt := bytes.Clone(in[i].Data()) // opening it leaves what was encrypted in clear
		reason := r.open(now, in[i:i+1], s)
		s.showReceived(now, &in[i], pkt, reason)
		r.snd.address(s)
	}
}

// stray says why a DATA packet has no session, and tells its sender if it may
// have had one.
func (r *reader) stray(now session.Time, m *netio.Message) Reason {
	_, id, err := wire.ParseData(m.Data())
	if err != nil {
		return Malformed
	}
	switch _, tag := r.srv.table.Find(id); tag {
	case maps.TagForged:
		return IDForged
	case maps.TagOurs:
		return r.reset(now, m, id)
	}
	return UnknownID // live, but not yet or no longer in the directory
}
