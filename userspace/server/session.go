// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Session is a client's session at the server. Its methods may be called from
// several goroutines.
//
// A million of them are idle at a time: what most never need is behind a pointer.
type Session struct {
	srv   *Server
	first wire.ID
	key   handshake.PublicKey
	name  string
	inbox inbox.Inbox
	timer timer // the wheel's

	number  uint32 // in the directory
	service uint16
	stage   stage   // mu guards
	tracing tracing // mu guards

	// mu guards all below. Any worker may open the session's packets, so it is
	// there for the case that two do; it is seldom contended.
	mu       sync.Mutex
	state    *session.Session
	worker   *worker           // whose wheel and sockets are its own
	attempt  *attempt          // of its handshake; nil once it is over
	told     *[]netip.AddrPort // the server's addresses that RESP named
	armedFor session.Time      // when timer fires; 0: unarmed
	capped   prefix            // the network that it is counted in; zero: not counted
	history  *history          // nil while nothing of the kind has happened
	err      *ClosedError      // why it is over
}

// stage is how far a session came.
type stage uint8

const (
	unheard stage = iota
	heard         // its client has spoken
	letIn
)

// history is what has happened to a session that happens to few.
type history struct {
	suitor   suitor        // the worker that opens its packets instead
	failures failures      // of packets from its own path
	lines    bucket        // log lines about its moves
	done     chan struct{} // made by the first who asks for it
	way      *way          // past the stack; nil: none known
	taps     []*tap        // who looks at its packets
}

// past returns the session's history, to add to it.
func (s *Session) past() *history {
	if s.history == nil {
		s.history = new(history)
	}
	return s.history
}

// newSession makes a session of w with its first id, which leads nowhere until
// start; abandon gives both back.
func (srv *Server) newSession(w *worker, key handshake.PublicKey, name string, service uint16) (*Session, session.LocalID, error) {
	s := &Session{
		srv: srv, worker: w, number: srv.directory.reserve(),
		key: key, name: name, service: service,
	}
	s.inbox.Limit(srv.cfg.Limits.ReceiveBuffer)
	id, reset, err := (*issuer)(s).Issue()
	if err != nil {
		srv.directory.remove(s.number)
		return nil, session.LocalID{}, err
	}
	s.first = id
	return s, session.LocalID{ID: id, Reset: reset}, nil
}

func (s *Session) abandon() {
	(*issuer)(s).Retire(s.first)
	s.srv.directory.remove(s.number)
}

// start makes the session's state, half-open, and lets packets find it. cfg is
// all but the role and the source of ids.
func (s *Session) start(cfg session.Config) (err error) {
	cfg.Role, cfg.IDs = session.Server, (*issuer)(s)
	if s.state, err = session.New(cfg, s.srv.clock.now()); err != nil {
		return err
	}
	s.srv.directory.publish(s.number, s)
	s.mu.Lock() // others can find it from here on
	defer s.mu.Unlock()
	s.arm()
	return nil
}

// ErrTooLarge means that a datagram is larger than the client or the path to it accepts;
// see Session.MaxDatagram.
var ErrTooLarge = session.ErrTooLarge

// ClosedError says why a session is over. It is net.ErrClosed to errors.Is.
type ClosedError struct {
	Code   wire.CloseCode
	Reason string // safe to show; may be empty
	Remote bool   // the client closed
}

func (e *ClosedError) Error() string {
	by := "closed"
	if e.Remote {
		by = "closed by the client"
	}
	if e.Reason == "" {
		return fmt.Sprintf("session %s: %v", by, e.Code)
	}
	return fmt.Sprintf("session %s: %v: %s", by, e.Code, e.Reason)
}

// Unwrap makes every ClosedError an ErrClosed.
func (e *ClosedError) Unwrap() error { return ErrClosed }

// ReceiveDatagram waits for the client's next datagram and copies it into p.
// Errors: ctx's; io.ErrShortBuffer if it was longer than p, with its first
// bytes in p; a *ClosedError once the session is over and all that came before
// was read.
func (s *Session) ReceiveDatagram(ctx context.Context, p []byte) (int, error) {
	return s.inbox.Receive(ctx, p)
}

// Loan is datagrams that a session has lent to a reader.
type Loan = inbox.Loan

// ReceiveDatagrams waits for the client's next datagram and lends what else has come, at
// most inbox.MaxLoan datagrams in all, without a copy: they are l's until the next call
// with it, or until it is returned. Errors, with no datagram: ctx's; a *ClosedError once
// the session is over and all that came before was read.
func (s *Session) ReceiveDatagrams(ctx context.Context, l *Loan) ([][]byte, error) {
	return s.inbox.Lend(ctx, l)
}

// senders are what goroutines outside of the workers send with.
var senders = sync.Pool{New: func() any { return new(sender) }}

// SendDatagram seals a datagram and sends it to where the client is. It may be
// lost on the way. Errors: ErrTooLarge beyond MaxDatagram; a
// *ClosedError once the session is over.
func (s *Session) SendDatagram(p []byte) error {
	snd, now := s.begin()
	err := s.state.Send(now, p, &snd.out)
	if errors.Is(err, ErrTooLarge) {
		s.worker.counts.datagramsTooLarge.Add(1)
	}
	return s.finish(snd, now, err)
}

// SendDatagrams is SendDatagram for each of ds, in order, at a small part of the
// price: they are sealed in one go, and those of one size leave as one message. It
// returns how many were sent, and why the one behind them was not.
func (s *Session) SendDatagrams(ds [][]byte) (n int, err error) {
	for err == nil && n < len(ds) {
		snd, now := s.begin()
		for part := ds[n:min(n+batchSize, len(ds))]; len(part) > 0; part = part[1:] {
			if err = s.state.Send(now, part[0], &snd.out); err != nil {
				break
			}
			n++
		}
		if errors.Is(err, ErrTooLarge) {
			s.worker.counts.datagramsTooLarge.Add(1)
		}
		err = s.finish(snd, now, err)
	}
	return n, err
}

// Close tells the client that the session is over, and why: reason is for a
// person to read. Closing what is closed does nothing.
func (s *Session) Close(code wire.CloseCode, reason string) error {
	snd, now := s.begin()
	s.state.Close(now, code, reason, &snd.out)
	return s.finish(snd, now, nil)
}

// begin locks the session for a call on its state from outside of the workers;
// finish carries out what came of it and unlocks.
func (s *Session) begin() (*sender, session.Time) {
	snd := senders.Get().(*sender)
	s.mu.Lock()
	return snd, s.srv.clock.now()
}

func (s *Session) finish(snd *sender, now session.Time, err error) error {
	w := s.worker
	s.settle(now, &snd.out, w.counts)
	snd.address(s)
	if err != nil && s.err != nil {
		err = s.err // why it is closed, rather than that it is
	}
	s.mu.Unlock()
	snd.srv, snd.conn = s.srv, w.conn
	snd.flush(w.counts)
	senders.Put(snd)
	return err
}

// Done is closed when the session is over: Err says why.
func (s *Session) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.past()
	if h.done == nil {
		h.done = make(chan struct{})
		if s.err != nil {
			close(h.done)
		}
	}
	return h.done
}

// Err returns a *ClosedError once the session is over, nil before.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return s.err
}

// ID names the session in logs and lists for all of its life: the first id
// that it was issued. Its packets carry others after a move.
func (s *Session) ID() wire.ID { return s.first }

// Service is what the client asked for.
func (s *Session) Service() uint16 { return s.service }

// PeerKey is who the client has proven to be.
func (s *Session) PeerKey() handshake.PublicKey { return s.key }

// PeerName is the name that Config.Authorize gave the client.
func (s *Session) PeerName() string { return s.name }

// RemoteAddr is the client's validated address, now.
func (s *Session) RemoteAddr() netip.AddrPort { return s.path().Remote }

// LocalAddr is our address that the client speaks to, now.
func (s *Session) LocalAddr() netip.AddrPort { return s.path().Local }

func (s *Session) path() session.Path {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Path()
}

// MaxDatagram is the largest datagram that can be sent, in bytes.
func (s *Session) MaxDatagram() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.MaxDatagram()
}

// MaxReceive is the largest datagram that can come, in bytes.
func (s *Session) MaxReceive() int { return int(s.srv.cfg.Params.MaxDatagram) }

// issuer is a Session in the role of session.IDs: the ids that its state asks
// for are slots of the table. The state calls it with the session's lock held.
type issuer Session

// Issue implements session.IDs.
func (i *issuer) Issue() (wire.ID, wire.Token, error) {
	id, slot, err := i.srv.table.Allocate(kindROAM, i.worker.index)
	if err != nil {
		return wire.ID{}, wire.Token{}, err
	}
	i.srv.directory.set(slot, i.number)
	if i.tracing == traced {
		(*Session)(i).flagID(id)
	}
	return id, i.srv.keys.resetToken(id), nil
}

// Retire implements session.IDs.
func (i *issuer) Retire(id wire.ID) {
	// In this order: once the slot is free, it may be another session's.
	if slot, tag := i.srv.table.Find(id); tag == tagLive {
		i.srv.directory.set(slot, 0)
	}
	if err := i.srv.table.Retire(id); err != nil {
		i.srv.cfg.Log.Error("an id was not retired", "id", id.String(), "error", err)
	}
}
