// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync/atomic"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Transmitter is a Queue that also sends, past the kernel's stack: netio.XSK.
type Transmitter interface {
	// WriteBatch sends messages that have a Link, in order, and returns how many:
	// the others are for a socket.
	WriteBatch([]netio.Message) int
}

// exit is a Queue that sends, for as long as it is there. Sessions keep this and not
// the queue: an idle one would keep all of its memory long after it has gone.
type exit struct {
	queue atomic.Pointer[Transmitter]
}

// newExit returns that of a queue, or nil if it does not send.
func newExit(q Queue) *exit {
	t, sends := q.(Transmitter)
	if !sends {
		return nil
	}
	e := new(exit)
	e.queue.Store(&t)
	return e
}

func (e *exit) write(ms []netio.Message) int {
	if t := e.queue.Load(); t != nil {
		return (*t).WriteBatch(ms)
	}
	return 0
}

// way is how a session's packets leave past the stack: by the queue that its
// packets come by, in frames like those the other way round. It is never changed;
// another takes its place.
type way struct {
	via   *exit
	path  session.Path
	link  netio.Link
	epoch uint32 // of Server.wayEpoch
	sure  bool   // the newest packet and the one before it came so
}

// learn takes the way from an authentic packet on the validated path; reason is what
// became of it, via nil if it came by a socket. No key vouches for a frame's header:
// a neighbour can copy a frame and be faster than the gateway with it. So only the
// newest packet teaches, and two in a row have to agree; whatever disagrees, were it
// the original that comes behind its copy, has the session send by sockets, where the
// kernel knows the neighbours. The way has to be learnt anew after a move, and when
// routes or neighbours have changed. The caller holds s.mu.
func (s *Session) learn(via *exit, m *netio.Message, reason session.Reason) {
	path := session.Path{Remote: m.Remote, Local: m.Local}
	w := s.lastWay(path)
	same := w != nil && w.via == via && w.link == m.Link
	if same && w.sure {
		return // nearly always
	}
	isNew := reason <= session.Probed
	if !isNew && reason != session.ReplayDuplicate && reason != session.ReplayOld || path != s.state.Path() {
		return
	}
	switch {
	case isNew && via != nil && !m.Link.IsZero() && s.isNewest(m):
		s.past().way = &way{via: via, path: path, link: m.Link, epoch: s.srv.wayEpoch.Load(), sure: same}
	case w != nil && !same:
		s.history.way = nil
	}
}

// isNewest reports whether m holds the newest packet of the session.
func (s *Session) isNewest(m *netio.Message) bool {
	counter, id, err := wire.ParseData(m.Data())
	return err == nil && s.state.Newest(&id, counter)
}

// wayTo returns the way of a packet to the path; nil: by a socket.
func (s *Session) wayTo(path session.Path) *way {
	if w := s.lastWay(path); w != nil && w.sure {
		return w
	}
	return nil
}

// lastWay returns what the last packet has taught of the way to the path, or nil.
func (s *Session) lastWay(path session.Path) *way {
	if s.history == nil || s.history.way == nil {
		return nil
	}
	if w := s.history.way; w.path == path && w.epoch == s.srv.wayEpoch.Load() {
		return w
	}
	return nil
}

// ForgetWays has all sessions learn anew how packets to them are framed: routes or
// neighbours have changed. Meanwhile they leave by UDP sockets.
func (srv *Server) ForgetWays() { srv.wayEpoch.Add(1) }

// address gives the packets that s has added to out their ways, and shows them to
// whoever traces it. The caller holds s.mu.
func (snd *sender) address(s *Session) {
	if s.tracing == traced {
		s.showSent(snd.out.Packets[len(snd.ways):])
	}
	for i := len(snd.ways); i < len(snd.out.Packets); i++ {
		snd.ways = append(snd.ways, s.wayTo(snd.out.Packets[i].Path))
	}
}

// direct returns the way of a packet that is to go past the stack. One that is in
// a row with others of its session is not: UDP sockets send such a train as one
// packet of the stack's, for less.
func (snd *sender) direct(i int) *way {
	if i >= len(snd.ways) || snd.ways[i] == nil {
		return nil
	}
	w := snd.ways[i]
	if i > 0 && snd.ways[i-1] == w || i+1 < len(snd.ways) && snd.ways[i+1] == w {
		return nil
	}
	return w
}

// transmit sends what is ready for a queue; what that does not take goes to msgs.
func (snd *sender) transmit(c *counters) {
	if len(snd.ready) == 0 {
		return
	}
	n := snd.via.write(snd.ready)
	c.sentDirect.Add(uint64(n))
	snd.msgs = append(snd.msgs, snd.ready[n:]...)
	clear(snd.ready)
	snd.ready = snd.ready[:0]
}
