// SPDX-License-Identifier: Apache-2.0

// Package server is the terminating end of ROAM/1: it listens, lets clients
// in, and hands their sessions to the program:
//
//	srv, err := server.Listen(server.Config{Static: key})
//	for {
//		s, err := srv.Accept(ctx)
//		go serve(s) // s.ReceiveDatagram, s.SendDatagram
//	}
//
// A session stays the same while its client moves from network to network.
//
// It works alone over ordinary UDP sockets, or behind a data plane (package
// maps) that drops what is forged and brings each packet to the socket of the
// session's worker. Nothing depends on that steering: any worker opens any
// packet, and no lane is trusted.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// ErrClosed means that the server, or the session, is closed.
var ErrClosed = net.ErrClosed

// Server is a listening ROAM/1 server. Its methods may be called from several goroutines.
type Server struct {
	cfg       Config
	clock     clock
	addr      netip.AddrPort
	table     *maps.Sessions
	directory *directory
	resetKey  [32]byte

	mac1    handshake.MAC1Key
	cookies *handshake.Cookies
	// cookieEpoch is the epoch whose keys the data plane has; the janitor alone changes it.
	cookieEpoch uint32
	responder   *handshake.Responder
	attempts    *attempts
	caps        *caps
	uncookied   limiter // INITs without a valid cookie that CookieAuto still takes
	versions    limiter
	refusals    limiter // log lines about refused clients
	jobs        chan *initJob
	nextOwner   atomic.Uint32 // worker that owns the next session, behind a data plane

	workers  []*worker
	readers  []*reader
	sink     io.Closer // where the data plane sends what it drops; nil without one
	counts   []*counters
	totals   totals
	accepted chan *Session

	ctx       context.Context // done when Close begins
	cancel    context.CancelFunc
	readersWG sync.WaitGroup
	othersWG  sync.WaitGroup // timekeepers, handshakers, the janitor
	closeOnce sync.Once
	closeErr  error
}

// Listen opens the sockets and starts to serve. Errors wrap ErrConfig where the
// configuration is at fault.
func Listen(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	srv := &Server{
		cfg:       cfg,
		clock:     newClock(),
		resetKey:  cfg.StateSecret.ResetKey(),
		mac1:      handshake.NewMAC1Key(cfg.Static.Public()),
		cookies:   handshake.NewCookies(cfg.StateSecret.CookieSecret(), cfg.ServerID),
		attempts:  newAttempts(cfg.Limits),
		caps:      newCaps(cfg.Limits),
		uncookied: limiter{rate: cfg.Limits.UncookiedRate * cfg.Workers, burst: cfg.Limits.UncookiedRate * cfg.Workers},
		versions:  limiter{rate: cfg.Limits.VersionRate, burst: cfg.Limits.VersionRate},
		refusals:  limiter{rate: 10, burst: 20},
		jobs:      make(chan *initJob, maxJobs),
		accepted:  make(chan *Session, cfg.Limits.AcceptQueue),
	}
	if srv.responder, err = handshake.NewResponder(cfg.Static, cfg.PSK); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := srv.openTable(); err != nil {
		return nil, err
	}
	if err := srv.openSockets(); err != nil {
		return nil, errors.Join(err, srv.closeSockets())
	}
	srv.ctx, srv.cancel = context.WithCancel(context.Background())
	srv.start()
	cfg.Log.Info("listening", "address", srv.addr, "workers", cfg.Workers, "public_key", cfg.Static.Public(),
		"data_plane", cfg.Maps != nil, "cookie", cfg.Cookie)
	return srv, nil
}

func (srv *Server) openTable() (err error) {
	if srv.cfg.Maps != nil {
		srv.table, err = srv.prepareDataPlane()
	} else {
		srv.table, err = maps.NewMemorySessions(srv.cfg.TableSlots, srv.cfg.ServerID, srv.cfg.StateSecret.IDKey)
		if errors.Is(err, maps.ErrSlots) {
			err = fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	if err != nil {
		return err
	}
	srv.directory = newDirectory(srv.table.Capacity())
	return nil
}

func (srv *Server) start() {
	for range srv.cfg.Workers {
		h := &handshaker{srv: srv, counts: srv.newCounters()}
		srv.othersWG.Go(h.run)
	}
	for _, w := range srv.workers {
		srv.othersWG.Go(w.keepTime)
	}
	srv.othersWG.Go(srv.tidy)
	for _, r := range srv.readers {
		srv.readersWG.Go(r.run)
	}
}

func (srv *Server) newCounters() *counters {
	c := new(counters)
	srv.counts = append(srv.counts, c)
	return c
}

// Addr returns the address that the server listens on.
func (srv *Server) Addr() netip.AddrPort { return srv.addr }

// PublicKey returns what clients know the server by.
func (srv *Server) PublicKey() handshake.PublicKey { return srv.cfg.Static.Public() }

// Accept waits for the next session whose client has proven itself. It fails
// with ctx's error, or with ErrClosed.
func (srv *Server) Accept(ctx context.Context) (*Session, error) {
	select {
	case s := <-srv.accepted:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-srv.ctx.Done():
		return nil, ErrClosed
	}
}

// Close tells every client, once, that the server shuts down, gives their slots
// back and returns when no goroutine of the server is left. Later calls return the same.
func (srv *Server) Close() error {
	srv.closeOnce.Do(func() {
		srv.cancel()
		srv.othersWG.Wait() // so that no session begins any more
		srv.closeSessions(wire.CloseShuttingDown, "the server is shutting down")
		srv.closeErr = srv.closeSockets()
		srv.readersWG.Wait()
		srv.retireAll()
		srv.cfg.Log.Info("stopped", "address", srv.addr)
	})
	return srv.closeErr
}

// closeSessions closes every session, in batches of packets.
func (srv *Server) closeSessions(code wire.CloseCode, reason string) {
	snd := sender{conn: srv.workers[0].conn}
	counts := srv.counts[0]
	srv.directory.each(func(s *Session) bool {
		s.mu.Lock()
		s.state.Close(srv.clock.now(), code, reason, &snd.out)
		s.settle(srv.clock.now(), &snd.out, counts)
		s.mu.Unlock()
		if len(snd.out.Packets) >= batchSize {
			snd.flush(counts)
		}
		return true
	})
	snd.flush(counts)
}

// retireAll frees the slots of sessions that were still saying goodbye.
func (srv *Server) retireAll() {
	srv.directory.each(func(s *Session) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		var ids []wire.ID
		s.state.LocalIDs(func(id wire.ID) { ids = append(ids, id) })
		for _, id := range ids {
			(*issuer)(s).Retire(id)
		}
		return true
	})
}

// tidy is the janitor: it forgets handshakes that are over and rotates cookie keys.
func (srv *Server) tidy() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var over []*Session
	for {
		select {
		case <-srv.ctx.Done():
			return
		case <-t.C:
		}
		now := srv.clock.now()
		srv.rotateCookies(now)
		over = srv.attempts.expire(now, over[:0])
		for _, s := range over {
			// A session that was not confirmed ends by its own timer; one that
			// was must not keep its handshake in memory for a day.
			s.mu.Lock()
			s.attempt = nil
			s.mu.Unlock()
		}
		clear(over)
	}
}
