// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// socket is one of our sockets. Its number is never used again in a session.
type socket struct {
	number uint32
	conn   netio.Conn
	way    Way
	local  netip.AddrPort
	raced  bool        // a way that the system would not take, found by trying all
	dead   atomic.Bool // the system gives nothing more of it
}

// Dial opens a session: it returns when the server has accepted it, one round
// trip after the start, or two when the server asks for a cookie. Servers are
// tried in turn. It gives up after 12 s, or when ctx ends.
//
// Errors: ErrConfig, ErrNoRoute, *NoAnswerError, *RefusedError, *VersionError,
// handshake.ErrBadPayload, handshake.ErrDowngrade, handshake.ErrNoPSK, and the
// resolver's.
func Dial(ctx context.Context, cfg Config) (*Session, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	servers := cfg.Servers
	if cfg.Server != "" {
		named, err := cfg.Network.Resolve(ctx, cfg.Server)
		if err != nil && len(servers) == 0 {
			return nil, err
		}
		for _, a := range named {
			if usable(a) && !slices.Contains(servers, a) {
				servers = append(servers, a)
			}
		}
	}
	begun := time.Now()
	d, err := newDialer(cfg)
	if err != nil {
		return nil, err
	}
	if err := d.openBySource(cfg.Network, servers); err != nil {
		d.stop(nil)
		return nil, err
	}
	found, err := d.run(ctx)
	if err != nil {
		d.stop(nil)
		return nil, err
	}
	d.stop(found.socket)
	s, err := newSession(cfg, servers, found, begun)
	if err != nil {
		found.socket.conn.Close()
		return nil, err
	}
	return s, nil
}

// dialer gives an attempt its sockets and its clock.
type dialer struct {
	attempt attempt
	start   time.Time
	newIDs  [3]handshake.NewID
	public  handshake.PublicKey // ours
	network Network
	sockets []*socket // by number

	packets chan inbound // what came to the sockets
	quit    chan struct{}
	readers sync.WaitGroup
	timer   *time.Timer // when tick is due
}

// answer is the server's yes, and the way that it came.
type answer struct {
	socket *socket
	remote netip.AddrPort
	reply  *handshake.Reply
	newIDs [3]handshake.NewID
}

func newDialer(cfg Config) (*dialer, error) {
	d := &dialer{
		start: time.Now(), public: cfg.Identity.Public(), network: cfg.Network,
		packets: make(chan inbound), quit: make(chan struct{}), timer: time.NewTimer(0),
	}
	for seq := range d.newIDs {
		id, reset, _ := randomIDs{}.Issue() // never fails
		d.newIDs[seq] = handshake.NewID{Seq: uint32(seq), ID: id, Reset: reset}
	}
	var err error
	d.attempt.initiator, err = handshake.NewInitiator(handshake.ClientConfig{
		Static: cfg.Identity, Server: cfg.ServerKey, PSK: cfg.PSK, Service: cfg.Service, Params: cfg.Params, NewIDs: d.newIDs,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return d, nil
}

// openBySource opens a socket at each address that the system would reach a server
// from.
func (d *dialer) openBySource(network Network, servers []netip.AddrPort) error {
	var firstErr error
	for _, remote := range servers {
		local, err := network.Source(remote)
		if err == nil {
			err = d.add(Way{Addr: local}, remote)
		}
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("%v: %w", remote, err)
		}
	}
	if len(d.attempt.targets) == 0 {
		return fmt.Errorf("%w: %w: check this host's network connection and the server's address", ErrNoRoute, firstErr)
	}
	d.attempt.plan = turns(len(d.attempt.targets))
	return nil
}

// add makes a server's address, reached by one of our ways, a target.
func (d *dialer) add(way Way, remote netip.AddrPort) error {
	i := slices.IndexFunc(d.sockets, func(s *socket) bool { return s.way == way })
	if i < 0 {
		conn, err := d.network.Listen(way)
		if err != nil {
			return err
		}
		i = len(d.sockets)
		d.sockets = append(d.sockets, &socket{number: uint32(i), conn: conn, way: way, raced: foreign(d.network, way, remote), local: conn.LocalAddr()})
	}
	d.attempt.targets = append(d.attempt.targets, target{socket: uint32(i), remote: remote})
	return nil
}

// listen begins to read the sockets.
func (d *dialer) listen() {
	for _, s := range d.sockets {
		d.readers.Go(func() { readDial(s, d.packets, d.quit) })
	}
}

// stop ends the reading and closes every socket but one. When it returns nobody
// reads that one any more.
func (d *dialer) stop(keep *socket) {
	d.timer.Stop()
	close(d.quit)
	for _, s := range d.sockets {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	}
	d.readers.Wait()
	for _, s := range d.sockets {
		if s != keep {
			s.conn.Close()
		}
	}
	if keep != nil {
		_ = keep.conn.SetReadDeadline(time.Time{})
	}
}

type inbound struct {
	socket *socket
	from   netip.AddrPort
	pkt    []byte
}

// run sends INITs until an answer opens.
func (d *dialer) run(ctx context.Context) (answer, error) {
	d.listen()
	for {
		select {
		case <-ctx.Done():
			return answer{}, d.attempt.noAnswer(time.Since(d.start), ctx.Err())
		case <-d.timer.C:
			if err := d.tick(); err != nil {
				return answer{}, err
			}
		case in := <-d.packets:
			if found, err := d.receive(in); err != nil || found != nil {
				if err != nil {
					return answer{}, err
				}
				return *found, nil
			}
		}
	}
}

// tick sends what is due, or returns the error that ends the attempt.
func (d *dialer) tick() error {
	t, err := d.attempt.tick(time.Since(d.start))
	if err != nil {
		return err
	}
	d.send(t)
	return nil
}

// receive returns the server's yes if in is that, or the error that ends the
// attempt, a *RefusedError among them.
func (d *dialer) receive(in inbound) (*answer, error) {
	t, reply, err := d.attempt.receive(time.Since(d.start), in.socket.number, in.from, in.pkt)
	switch {
	case err != nil:
		return nil, err
	case reply == nil:
		d.send(t)
		return nil, nil
	case reply.Status != wire.StatusAccepted:
		return nil, &RefusedError{reply.Status, reply.Code, reply.Reason, d.public}
	}
	return &answer{in.socket, in.from, reply, d.newIDs}, nil
}

// hurry sends an INIT at once to the target that is nearest to where the server
// has just been heard.
func (d *dialer) hurry(way Way, remote netip.AddrPort) {
	best := 0
	for i, t := range d.attempt.targets {
		if t.remote != remote {
			continue
		}
		best = i
		if d.sockets[t.socket].way == way {
			break
		}
	}
	d.attempt.hurry(time.Since(d.start), best)
	d.timer.Reset(0)
}

// send sends the INIT to a target, if there is one, and arms the timer. What the
// system says against it is not final: the repeats try again.
func (d *dialer) send(t *target) {
	if t != nil {
		msg := []netio.Message{{Buf: d.attempt.packet(t), Remote: t.remote}}
		_, _ = d.sockets[t.socket].conn.WriteBatch(msg)
	}
	d.timer.Reset(d.attempt.deadline() - time.Since(d.start))
}

// readDial hands packets on until the read deadline or stop.
func readDial(s *socket, packets chan<- inbound, stop <-chan struct{}) {
	msgs := netio.MakeMessages(2, netio.TrainRoom)
	var parts []netio.Message
	for {
		n, err := s.conn.ReadBatch(msgs)
		if err != nil {
			return
		}
		parts = netio.Split(parts[:0], msgs[:n])
		for _, m := range parts {
			if m.N > wire.MaxResp {
				continue // no packet of a handshake
			}
			// The receiver is done with the packet when the next is taken, but this
			// buffer may be read into before: so a copy.
			pkt := append([]byte(nil), m.Data()...)
			select {
			case packets <- inbound{s, m.Remote, pkt}:
			case <-stop:
				return
			}
		}
	}
}

// randomIDs issues the ids of a client: nobody looks them up in a table.
type randomIDs struct{}

func (randomIDs) Issue() (id wire.ID, reset wire.Token, err error) {
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(reset[:])
	return id, reset, nil
}

func (randomIDs) Retire(wire.ID) {}

func sessionConfig(cfg Config, servers []netip.AddrPort, found answer) session.Config {
	r := found.reply
	sc := session.Config{
		Role: session.Client, C2S: r.Secrets.C2S, S2C: r.Secrets.S2C,
		Path:        session.Path{Socket: found.socket.number, Remote: found.remote},
		IDs:         randomIDs{},
		IdleTimeout: cfg.Params.IdleTimeout, Keepalive: cfg.Keepalive,
		MaxDatagram: cfg.Params.MaxDatagram, PeerMaxDatagram: r.Params.MaxDatagram,
		Known: slices.Concat(r.Addrs, servers),
	}
	if t := r.Params.IdleTimeout; t > 0 {
		sc.IdleTimeout = min(sc.IdleTimeout, t)
	}
	for _, n := range found.newIDs {
		sc.Local = append(sc.Local, session.LocalID(n))
	}
	for _, n := range r.NewIDs {
		sc.Remote = append(sc.Remote, session.RemoteID(n))
	}
	return sc
}
