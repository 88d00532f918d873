// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
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
	local  netip.AddrPort
	dead   atomic.Bool // the system gives nothing more of it
}

// Dial opens a session: it returns when the server has accepted it, one round
// trip after the start, or two when the server asks for a cookie. Servers are
// tried in turn. It gives up after 12 s, or when ctx ends.
//
// Errors: ErrConfig, ErrNoRoute, *NoAnswerError, *RefusedError, *VersionError,
// handshake.ErrBadPayload and handshake.ErrDowngrade.
func Dial(ctx context.Context, cfg Config) (*Session, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	var ids randomIDs
	newIDs := [3]handshake.NewID{}
	for seq := range newIDs {
		id, reset, _ := ids.Issue() // never fails
		newIDs[seq] = handshake.NewID{Seq: uint32(seq), ID: id, Reset: reset}
	}
	initiator, err := handshake.NewInitiator(handshake.ClientConfig{
		Static: cfg.Identity, Server: cfg.ServerKey, PSK: cfg.PSK, Service: cfg.Service, Params: cfg.Params, NewIDs: newIDs,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	d := &dialer{attempt: attempt{initiator: initiator}, start: time.Now()}
	if err := d.open(cfg); err != nil {
		return nil, err
	}
	found, err := d.run(ctx)
	if err != nil {
		d.close(nil)
		return nil, err
	}
	if found.reply.Status != wire.StatusAccepted {
		d.close(nil)
		return nil, &RefusedError{found.reply.Status, found.reply.Code, found.reply.Reason, cfg.Identity.Public()}
	}
	d.close(found.socket)
	s, err := newSession(cfg, newIDs, found, d.start)
	if err != nil {
		found.socket.conn.Close()
		return nil, err
	}
	return s, nil
}

// dialer gives the attempt its sockets and its clock.
type dialer struct {
	attempt attempt
	start   time.Time
	sockets []*socket
}

// answer is a reply, and the way that it came.
type answer struct {
	socket *socket
	remote netip.AddrPort
	reply  *handshake.Reply
}

// open opens a socket at each address that the system would reach a server from.
func (d *dialer) open(cfg Config) error {
	var firstErr error
	for _, remote := range cfg.Servers {
		s, err := d.socketFor(cfg.Network, remote)
		if err != nil {
			if firstErr == nil {
				firstErr = fmt.Errorf("%v: %w", remote, err)
			}
			continue
		}
		d.attempt.targets = append(d.attempt.targets, target{socket: s.number, remote: remote})
	}
	if len(d.attempt.targets) == 0 {
		return fmt.Errorf("%w: %w: check this host's network connection and the server's address", ErrNoRoute, firstErr)
	}
	return nil
}

func (d *dialer) socketFor(network Network, remote netip.AddrPort) (*socket, error) {
	local, err := network.Source(remote)
	if err != nil {
		return nil, err
	}
	for _, s := range d.sockets {
		if s.local.Addr() == local {
			return s, nil
		}
	}
	conn, err := network.Listen(local)
	if err != nil {
		return nil, err
	}
	s := &socket{number: uint32(len(d.sockets)), conn: conn, local: conn.LocalAddr()}
	d.sockets = append(d.sockets, s)
	return s, nil
}

// close closes every socket but one.
func (d *dialer) close(keep *socket) {
	for _, s := range d.sockets {
		if s != keep {
			s.conn.Close()
		}
	}
}

type inbound struct {
	socket *socket
	from   netip.AddrPort
	pkt    []byte
}

// run sends INITs until an answer opens. When it returns nobody reads the
// sockets any more.
func (d *dialer) run(ctx context.Context) (answer, error) {
	packets := make(chan inbound)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for _, s := range d.sockets {
		readers.Go(func() { readDial(s, packets, stop) })
	}
	defer func() {
		close(stop)
		for _, s := range d.sockets {
			_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
		}
		readers.Wait()
		for _, s := range d.sockets {
			_ = s.conn.SetReadDeadline(time.Time{})
		}
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return answer{}, d.attempt.noAnswer(time.Since(d.start), ctx.Err())
		case <-timer.C:
			t, err := d.attempt.tick(time.Since(d.start))
			if err != nil {
				return answer{}, err
			}
			d.send(t)
			timer.Reset(d.attempt.deadline() - time.Since(d.start))
		case in := <-packets:
			t, reply, err := d.attempt.receive(time.Since(d.start), in.socket.number, in.from, in.pkt)
			if err != nil {
				return answer{}, err
			}
			if reply != nil {
				return answer{in.socket, in.from, reply}, nil
			}
			d.send(t)
			timer.Reset(d.attempt.deadline() - time.Since(d.start))
		}
	}
}

// send sends the INIT to a target, if there is one. What the system says against
// it is not final: the repeats try again.
func (d *dialer) send(t *target) {
	if t != nil {
		msg := []netio.Message{{Buf: d.attempt.packet(t), Remote: t.remote}}
		_, _ = d.sockets[t.socket].conn.WriteBatch(msg)
	}
}

// readDial hands packets on until the read deadline or stop.
func readDial(s *socket, packets chan<- inbound, stop <-chan struct{}) {
	// A handshake packet is at most MaxResp bytes; a longer one is none.
	msgs := make([]netio.Message, 8)
	for i := range msgs {
		msgs[i].Buf = make([]byte, wire.MaxResp+1)
	}
	for {
		n, err := s.conn.ReadBatch(msgs)
		if err != nil {
			return
		}
		for _, m := range msgs[:n] {
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

func sessionConfig(cfg Config, newIDs [3]handshake.NewID, found answer) session.Config {
	r := found.reply
	sc := session.Config{
		Role: session.Client, C2S: r.Secrets.C2S, S2C: r.Secrets.S2C,
		Path:        session.Path{Socket: found.socket.number, Remote: found.remote},
		IDs:         randomIDs{},
		IdleTimeout: cfg.Params.IdleTimeout, Keepalive: cfg.Keepalive,
		MaxDatagram: cfg.Params.MaxDatagram, PeerMaxDatagram: r.Params.MaxDatagram,
		Known: cfg.Servers,
	}
	if t := r.Params.IdleTimeout; t > 0 {
		sc.IdleTimeout = min(sc.IdleTimeout, t)
	}
	for _, n := range newIDs {
		sc.Local = append(sc.Local, session.LocalID(n))
	}
	for _, n := range r.NewIDs {
		sc.Remote = append(sc.Remote, session.RemoteID(n))
	}
	return sc
}
