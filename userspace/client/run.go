// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// work is what one call on the state machine, or one batch of packets, left to
// do. Every goroutine has its own, so that it can do it after it has let go of
// Session.mu.
type work struct {
	out    session.Output
	msgs   []netio.Message
	conns  []netio.Conn // by message
	events []Event
	closes []netio.Conn
	ended  bool
	heard  bool // something authentic came, when that was in doubt
}

// gather turns the output into work, and keeps what the Session itself must
// know. mu is held.
func (s *Session) gather(w *work) {
	// Before the events: one of them may close the inbox.
	if len(w.out.Datagrams) > 0 {
		s.overflow += uint64(s.inbox.Push(w.out.Datagrams...))
	}
	for _, p := range w.out.Packets {
		socket := s.sockets[p.Path.Socket]
		if socket == nil {
			s.refused.Add(1)
			continue
		}
		w.msgs = append(w.msgs, netio.Message{Buf: p.Data, Remote: p.Path.Remote, Local: p.Path.Local})
		w.conns = append(w.conns, socket.conn)
	}
	for i := range w.out.Events {
		s.note(&w.out.Events[i], w)
	}
	if w.heard {
		s.hear(w)
	}
	// Told in the order of the state machine, so under its lock.
	s.teller.add(w.events)
	s.arm()
}

// note acts on one event of the state machine. mu is held.
func (s *Session) note(e *session.Event, w *work) {
	tell := Event{From: s.endpoints(e.From), To: s.endpoints(e.Path), At: time.Now()}
	switch e.Kind {
	case session.EventConfirmed:
		tell.Kind = EventConfirmed
		s.news.confirmed = true
		notify(s.wake)
	case session.EventMoveStarted:
		if !e.Path.Same(s.machine.Path()) {
			return // the server's, on trial
		}
		tell.Kind = EventMoving
		s.unheard, s.news.moved = true, true
		notify(s.wake)
	case session.EventMoveCommitted, session.EventMoveReverted:
		tell.Kind = EventMoved
		s.arrive()
		notify(s.mended)
	case session.EventSilent:
		s.silent, s.silentOn, s.news.silent = true, e.Path, true
		notify(s.wake)
		tell.Kind = EventSilent
	case session.EventClockJump:
		s.news.jumped = true
		notify(s.wake)
		tell.Kind = EventClockJump
	case session.EventRaceLost:
		s.news.raceLost = true
		notify(s.wake)
		return
	case session.EventAddrs:
		s.news.addrs = true
		notify(s.wake)
		return
	case session.EventReset:
		s.news.at = tell.To
		if socket := s.sockets[e.Path.Socket]; socket != nil {
			s.news.way = socket.way
		}
		s.lose(&ClosedError{Remote: true, Cause: ErrLost}, !s.cfg.NoReopen, w)
		return
	case session.EventForwardingAlarm:
		tell.Kind = EventForwardingAlarm
	case session.EventObserved:
		if e.Addr == s.observed {
			return
		}
		s.observed = e.Addr
		tell.Kind, tell.Addr = EventObserved, e.Addr
	case session.EventPathReleased:
		if socket := s.sockets[e.Path.Socket]; socket != nil {
			delete(s.sockets, e.Path.Socket)
			w.closes = append(w.closes, socket.conn)
		}
		return
	case session.EventClosed:
		s.lose(&ClosedError{Remote: e.Remote, Code: e.Code, Reason: e.Text}, s.mayReopen(e), w)
		return
	case session.EventEnded:
		w.ended = w.ended || s.lost == nil
		return
	default:
		return
	}
	w.events = append(w.events, tell)
}

// arrive tells those who wait for a move that the server was heard. mu is held.
func (s *Session) arrive() {
	s.unheard = false
	for _, arrived := range s.arrivals {
		close(arrived)
	}
	s.arrivals = nil
}

// hear ends a silence. mu is held.
func (s *Session) hear(w *work) {
	if s.silent && s.lost == nil && s.silentOn.Same(s.machine.Path()) {
		w.events = append(w.events, Event{Kind: EventHeard, To: s.endpoints(s.machine.Path()), At: time.Now()})
	}
	s.silent, s.doubt, s.news.heard = false, false, true
	notify(s.wake)
}

// lose notes that the state machine is over: then roamLoop opens another session,
// or, without again, this is the end. mu is held.
func (s *Session) lose(why *ClosedError, again bool, w *work) {
	if !again || s.closing {
		s.conclude(why, w)
		return
	}
	s.lost, s.news.lost = why, true
	if why.Cause != nil {
		s.lost = why.Cause
	}
	notify(s.wake)
}

// mayReopen reports whether an end is none of the session's own: the server goes
// away, ours were used up, or for the whole idle timeout no answer came to our
// keepalives. An end that the server or the application wants is one.
func (s *Session) mayReopen(e *session.Event) bool {
	switch {
	case s.cfg.NoReopen:
		return false
	case e.Remote:
		return e.Code == wire.CloseShuttingDown
	case e.Code == wire.CloseIdle:
		return s.cfg.Keepalive > 0
	}
	return e.Code == wire.CloseLimit
}

// conclude ends the session for the application. mu is held.
func (s *Session) conclude(why *ClosedError, w *work) {
	if s.err != nil {
		return
	}
	s.err = why
	s.inbox.Close(s.err)
	close(s.done)
	w.events = append(w.events, Event{Kind: EventClosed, To: s.endpoints(s.machine.Path()), Err: s.err, At: time.Now()})
}

// arm sets the timer for the state machine's deadline, unless it is early
// anyway. mu is held.
func (s *Session) arm() {
	if at, ok := s.machine.Deadline(); ok && at < s.armed {
		s.armed = at
		s.timer.Reset(at - s.now())
	}
}

// carryOut does the work, empties it, and keeps its memory. mu is not held.
func (s *Session) carryOut(w *work) {
	// Before anything is sent, so that no answer can be logged before its cause.
	for _, e := range w.events {
		e.log(s.log)
	}
	for i := 0; i < len(w.msgs); {
		j := i + 1
		for j < len(w.msgs) && w.conns[j] == w.conns[i] {
			j++
		}
		taken, err := w.conns[i].WriteBatch(w.msgs[i:j])
		if err != nil {
			s.refused.Add(uint64(j - i - taken))
		}
		if unreachable(err) && !s.offline.Load() {
			notify(s.kick)
		}
		i = j
	}
	s.discard(w.closes)
	if w.ended {
		s.shutdown()
	}
	clear(w.conns)
	w.out.Reset()
	w.msgs, w.conns, w.events, w.closes, w.ended = w.msgs[:0], w.conns[:0], w.events[:0], w.closes[:0], false
	w.heard = false
}

// discard closes sockets that the session has given up, and keeps their count.
func (s *Session) discard(conns []netio.Conn) {
	for _, c := range conns {
		c.Close()
		lost := c.Dropped()
		s.mu.Lock()
		s.full += lost
		s.mu.Unlock()
	}
}

// unreachable reports whether the system itself, not a router, says that the
// network is not as it was: then the routes are worth a look.
func unreachable(err error) bool {
	return err != nil && slices.ContainsFunc([]error{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN,
		syscall.EADDRNOTAVAIL, syscall.EINVAL}, func(e error) bool { return errors.Is(err, e) })
}

// notify puts a token into a channel of one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// readBatch is how many packets, or trains of them, are read at once.
const readBatch = 16

// readMemory is what they are read into, a megabyte: that of a path which is given up
// serves the next move.
var readMemory = sync.Pool{New: func() any {
	m := netio.MakeMessages(readBatch, netio.TrainRoom)
	return &m
}}

// readLoop brings the packets of one socket to the state machine until the
// socket is closed.
func (s *Session) readLoop(socket *socket) {
	memory := readMemory.Get().(*[]netio.Message)
	defer readMemory.Put(memory)
	msgs := *memory
	var packets []netio.Message
	var w work
	for {
		n, err := socket.conn.ReadBatch(msgs)
		if err != nil {
			socket.dead.Store(true)
			s.mu.Lock()
			lost := s.sockets[socket.number] == socket
			s.mu.Unlock()
			if lost { // the system's doing, not ours: roamLoop looks for a new one
				notify(s.kick)
			}
			return
		}
		s.mu.Lock()
		now := s.now()
		packets = netio.Split(packets[:0], msgs[:n])
		if s.sockets[socket.number] == nil { // of a session that another one has replaced
			s.late += uint64(len(packets))
			packets = packets[:0]
		}
		for i := range packets {
			s.receive(now, socket, &packets[i], &w)
		}
		s.gather(&w)
		s.mu.Unlock()
		s.carryOut(&w)
	}
}

// receive gives one packet to the state machine. mu is held.
func (s *Session) receive(now session.Time, socket *socket, m *netio.Message, w *work) {
	from := session.Path{Socket: socket.number, Remote: m.Remote}
	if s.machine.State() != session.StateClosing {
		asking := s.machine.Asking()
		r := s.machine.Receive(now, from, m.Data(), &w.out)
		if (s.silent || s.doubt) && (r == session.Delivered || r == session.Probed) {
			w.heard = true
		}
		if asking && !s.machine.Asking() {
			notify(s.mended)
		}
		return
	}
	s.machine.Receive(now, from, m.Data(), &w.out)
	if s.machine.CloseAcknowledged() {
		s.ackOnce.Do(func() { close(s.acked) })
	}
}

// tickLoop calls the state machine when it has something to do.
func (s *Session) tickLoop() {
	var w work
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.timer.C:
		}
		s.mu.Lock()
		now := s.now()
		if at, ok := s.machine.Deadline(); ok && at <= now {
			s.machine.Tick(now, &w.out)
		}
		s.armed = never
		s.gather(&w)
		s.mu.Unlock()
		s.carryOut(&w)
	}
}

// never is later than any deadline.
const never = session.Time(1<<63 - 1)

// shutdown ends the goroutines and closes the sockets. It does not wait.
func (s *Session) shutdown() {
	s.mu.Lock()
	s.over = true
	sockets := s.sockets
	s.sockets = nil
	s.mu.Unlock()
	s.end()
	conns := make([]netio.Conn, 0, len(sockets))
	for _, socket := range sockets {
		conns = append(conns, socket.conn)
	}
	s.discard(conns)
}
