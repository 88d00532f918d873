// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Session is an open session. All methods may be called concurrently. Whoever
// has one must Close it: until it is closed, by whichever end, it keeps sockets
// and goroutines.
type Session struct {
	cfg   Config
	start time.Time // of the state machine's time
	log   *slog.Logger

	mu       sync.Mutex // guards what follows, never held while sending or telling
	machine  *session.Session
	sockets  map[uint32]*socket
	next     uint32 // number of the next socket
	observed netip.AddrPort
	timer    *time.Timer     // wakes tickLoop
	armed    session.Time    // when; it may be early
	err      *ClosedError    // set before done is closed
	closing  bool            // Close was called
	overflow uint64          // datagrams that the inbox did not take
	unsent   uint64          // datagrams given to us while there was no session
	late     uint64          // packets that came to a socket that was given up
	full     uint64          // packets that sockets lost which are closed
	over     bool            // shutdown has begun: no new goroutine, no new socket
	arrivals []chan struct{} // closed when the server is heard on the path that we moved to
	health

	sendMu sync.Mutex // guards sender and one; taken before mu
	sender work
	one    [1][]byte // the datagram that SendDatagram sends

	inbox   inbox.Inbox
	teller  teller
	offline atomic.Bool   // there is no route, and EventNoRoute was told
	refused atomic.Uint64 // packets that were not sent

	kick    chan struct{} // the network may have changed
	wake    chan struct{} // there is news for roamLoop
	done    chan struct{} // the session is over
	acked   chan struct{} // the server knows that we closed it
	mended  chan struct{} // what Recovered returns
	life    context.Context
	end     context.CancelFunc // ends life
	group   sync.WaitGroup     // every goroutine but the teller's
	ackOnce sync.Once          // closes acked
}

// health is what is known of the session's hold on the server.
type health struct {
	generation uint32
	lost       error        // the state machine is over, and another session is to be opened; why
	silent     bool         // EventSilent was told, and nothing was heard since
	silentOn   session.Path // when that began
	doubt      bool         // a race looks for the server, and nothing was heard since
	unheard    bool         // nothing was heard yet on the path that we moved to
	reopening  bool         // EventReopening was told
	news       news
}

// news is what roamLoop must act on.
type news struct {
	confirmed, silent, jumped, moved, heard, raceLost, addrs, lost bool
	at                                                             Endpoints // lost: where the server said so, if it did
	way                                                            Way       // and our way there
}

func newSession(cfg Config, servers []netip.AddrPort, found answer, start time.Time) (*Session, error) {
	s := &Session{
		cfg: cfg, start: start,
		log:      cfg.Log.With("session", found.id()),
		sockets:  map[uint32]*socket{found.socket.number: found.socket},
		next:     found.socket.number + 1,
		observed: found.reply.Observed,
		health:   health{generation: 1},
		timer:    time.NewTimer(0),
		teller:   teller{tell: cfg.OnEvent},
		kick:     make(chan struct{}, 1),
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
		acked:    make(chan struct{}),
		mended:   make(chan struct{}, 1),
	}
	s.inbox.Limit(cfg.ReceiveBuffer)
	var err error
	if s.machine, err = session.New(sessionConfig(cfg, servers, found), s.now()); err != nil {
		return nil, err
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.group.Go(func() { s.readLoop(found.socket) })
	s.group.Go(s.tickLoop)
	s.group.Go(func() { s.roamLoop(servers) })
	s.group.Go(s.watchLoop)
	return s, nil
}

// id is the name that log lines give a session.
func (a *answer) id() string { return a.reply.NewIDs[0].ID.String()[:8] }

func (s *Session) now() session.Time { return time.Since(s.start) }

// SendDatagram sends one datagram. It fails with ErrTooLarge or, once the
// session is over, with a *ClosedError. That it returns nil does not mean that
// the datagram arrives: while a lost session is being opened again, for one, what
// is sent is dropped, and counted by Info.Unsent.
func (s *Session) SendDatagram(p []byte) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	s.one[0] = p
	_, err := s.send(s.one[:])
	s.one[0] = nil
	return err
}

// SendDatagrams is SendDatagram for each of ds, in order, at a small part of the
// price: they are sealed in one go, and on Linux those of one size leave as one
// message. It returns how many were sent, and why the one behind them was not.
func (s *Session) SendDatagrams(ds [][]byte) (n int, err error) {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	for err == nil && n < len(ds) {
		var sent int
		sent, err = s.send(ds[n:min(n+sendBatch, len(ds))])
		n += sent
	}
	return n, err
}

// sendBatch is how many datagrams are sealed before they are sent.
const sendBatch = 64

// send seals and sends ds until one fails, and returns how many did not. sendMu is held.
func (s *Session) send(ds [][]byte) (n int, err error) {
	w := &s.sender
	s.mu.Lock()
	for now := s.now(); n < len(ds); n++ {
		err = s.machine.Send(now, ds[n], &w.out)
		if errors.Is(err, session.ErrClosed) && s.lost != nil && s.err == nil {
			s.unsent++
			err = nil
		}
		if err != nil {
			break
		}
	}
	s.gather(w)
	s.mu.Unlock()
	s.carryOut(w)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, session.ErrClosed):
		return n, s.Err()
	case errors.Is(err, session.ErrTooLarge):
		return n, fmt.Errorf("%w: %d bytes where %d fit", ErrTooLarge, len(ds[n]), s.MaxDatagram())
	}
	return n, err
}

// ReceiveDatagram waits for a datagram and copies it into p. What does not fit
// is lost, with io.ErrShortBuffer. It fails with ctx's error, or, once the
// session is over and what came before has been read, with a *ClosedError.
func (s *Session) ReceiveDatagram(ctx context.Context, p []byte) (int, error) {
	return s.inbox.Receive(ctx, p)
}

// Loan is datagrams that a session has lent to a reader.
type Loan = inbox.Loan

// ReceiveDatagrams waits for a datagram and lends what else has come, at most
// inbox.MaxLoan datagrams in all, without a copy: they are l's until the next call with
// it, or until it is returned. With no datagram it fails as ReceiveDatagram does.
func (s *Session) ReceiveDatagrams(ctx context.Context, l *Loan) ([][]byte, error) {
	return s.inbox.Lend(ctx, l)
}

// closeWait is how long Close waits at least for the server to know, maxCloseWait
// how long at most: between them for as long as a CLOSE that was lost once takes to
// be sent again and answered, which is longer where the round trip is not known yet.
const closeWait, maxCloseWait = time.Second, 3 * time.Second

// Close ends the session, tells the server and waits until it knows, for a
// second, or up to three where the round trip takes long. When it returns, every goroutine and socket of the session is gone. It
// returns nil, or, if the session was over before, the *ClosedError of that end.
func (s *Session) Close(code wire.CloseCode, reason string) error {
	var before error
	w := new(work)
	s.mu.Lock()
	if s.err != nil {
		before = s.err
	}
	s.closing = true
	lost := s.lost != nil
	if lost {
		s.conclude(&ClosedError{Code: code, Reason: reason}, w)
	} else {
		s.machine.Close(s.now(), code, reason, &w.out)
	}
	over := s.machine.CloseAcknowledged()
	patience := min(max(2*s.machine.Info().PTO, closeWait), maxCloseWait)
	s.gather(w)
	s.mu.Unlock()
	s.carryOut(w)

	// Whoever is told of the end by another call of Close comes here while that one
	// has not sent anything yet.
	if !lost && !over {
		wait := time.NewTimer(patience)
		select {
		case <-s.acked:
		case <-s.life.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
	s.shutdown()
	s.group.Wait()
	return before
}

// Done returns a channel that is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.done }

// Recovered returns a channel, for one reader, that gets a token when datagrams
// flow again: the server is heard on another path, or after it had not answered
// for longer than its round trip takes, or there is a new session with it (see
// Generation). What was sent before may have been lost: time for a protocol above
// to send again, instead of waiting for its timers.
func (s *Session) Recovered() <-chan struct{} { return s.mended }

// Err returns nil while the session lives, then the *ClosedError that says why
// not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return s.err
}

// Generation counts the sessions with the server that this one has been, from 1.
// A move, however far, leaves it as it is. It grows when the server has lost the
// session, or nothing answered on any way, and another one was opened in its
// place (EventReopened): what was sent and not answered is then lost for good, and
// the server's application has a new session in front of it. Datagrams that had
// come before can still be read.
func (s *Session) Generation() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// Service returns the service port that was asked for.
func (s *Session) Service() uint16 { return s.cfg.Service }

// PeerKey returns the server's public key.
func (s *Session) PeerKey() handshake.PublicKey { return s.cfg.ServerKey }

// PublicKey returns the key that the server knows us by.
func (s *Session) PublicKey() handshake.PublicKey { return s.cfg.Identity.Public() }

// RemoteAddr returns the address of the server that we send to.
func (s *Session) RemoteAddr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.Path().Remote
}

// LocalAddr returns our address that we send from.
func (s *Session) LocalAddr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoints(s.machine.Path()).Local
}

// ObservedAddr returns where the server last said that it sees us, which differs
// from LocalAddr behind a NAT. It is not valid if the server never said.
func (s *Session) ObservedAddr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.observed
}

// MaxDatagram returns the largest datagram in bytes that SendDatagram takes on
// the current path.
func (s *Session) MaxDatagram() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.MaxDatagram()
}

// Info is a snapshot of a session.
type Info struct {
	session.Info // its times count from Began
	Began        time.Time
	Local        netip.AddrPort   // our address that we send from
	Servers      []netip.AddrPort // where the server may be, the current address first
	Generation   uint32           // see Session.Generation
	Reopening    bool             // another session is being opened
	Lost         error            // why there is none now, or nil
	Sockets      int              // open: the current one, those of a race, and left ones that still answer
	Overflow     uint64           // datagrams dropped because nobody read them in time
	Unsent       uint64           // datagrams dropped because there was no session to send them in

	// What was lost on this host, in packets.

	// SendRefused: the system did not take them, for want of a route for instance, or
	// their socket was given up before they could leave.
	SendRefused uint64
	// SocketDropped: they waited in a socket that had no room left, because we did not
	// read in time; see netio.Conn.
	SocketDropped uint64
	// Late: they came to a socket that was given up.
	Late uint64
}

// Info returns a snapshot.
func (s *Session) Info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := Info{
		Info: s.machine.Info(), Began: s.start, Servers: s.machine.Known(), Sockets: len(s.sockets),
		Generation: s.generation, Reopening: s.reopening, Lost: s.lost, Overflow: s.overflow, Unsent: s.unsent,
		SendRefused: s.refused.Load(), SocketDropped: s.full, Late: s.late,
	}
	for _, socket := range s.sockets {
		i.SocketDropped += socket.conn.Dropped()
	}
	i.Local = s.endpoints(i.Path).Local
	i.Observed = s.observed
	return i
}

// endpoints returns the ends of a path. mu is held.
func (s *Session) endpoints(p session.Path) Endpoints {
	e := Endpoints{Remote: p.Remote}
	if socket := s.sockets[p.Socket]; socket != nil {
		e.Local = socket.local
	}
	return e
}
