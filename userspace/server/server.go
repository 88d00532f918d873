// SPDX-License-Identifier: Apache-2.0

// Package server is the terminating end of ROAM/1: it listens, accepts clients, and hands
// their sessions to the program:
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
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
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
	keys      keyring

	identities []identity // of Static, then of Previous
	cookies    *handshake.Cookies
	attempts   *attempts
	caps       *caps
	uncookied  limiter // INITs without a valid cookie that CookieAuto still takes
	versions   limiter
	refusals   limiter // log lines about refused clients
	moveLines  limiter // log lines about moves
	journal    *journal
	resets     limiter
	jobs       chan *initJob
	nextOwner  atomic.Uint32 // worker that owns the next session, behind a data plane

	workers     []*worker
	readers     []*reader
	handshakers []*handshaker
	janitor     work
	queues      queues
	wayEpoch    atomic.Uint32 // see ForgetWays
	sink        io.Closer     // where the data plane sends what it drops; nil without one
	counts      []*counters
	totals      totals
	accepted    chan *Session

	addrs     atomic.Pointer[[]netip.AddrPort] // where clients can reach us
	lost      lostAddresses
	readdress readdresser

	traces   *maps.TraceReader // of the data plane; nil without one
	tracesWG sync.WaitGroup

	draining atomic.Bool
	ctx      context.Context // done when Close begins
	cancel   context.CancelFunc
	// ended is done when every client has been told, or had its time.
	ended context.Context
	end   context.CancelFunc

	openersWG sync.WaitGroup // handshakers, the janitor and the readdresser, until ctx is done
	keepersWG sync.WaitGroup // timekeepers, until ended
	readersWG sync.WaitGroup // until the sockets are closed
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
	srv := newServer(cfg)
	if err := srv.open(); err != nil {
		srv.journal.close()
		return nil, err
	}
	srv.start()
	srv.cfg.Log.Info("listening", "address", srv.addr, "workers", cfg.Workers, "public_key", cfg.Static.Public(),
		"data_plane", cfg.Maps != nil, "cookie", cfg.Cookie)
	return srv, nil
}

func newServer(cfg Config) *Server {
	srv := &Server{
		cfg:       cfg,
		clock:     newClock(),
		cookies:   handshake.NewCookies(cfg.State.CookieSecret(), cfg.ServerID),
		caps:      newCaps(cfg.Limits),
		uncookied: limiter{rate: cfg.Limits.UncookiedRate * cfg.Workers, burst: cfg.Limits.UncookiedRate * cfg.Workers},
		versions:  limiter{rate: cfg.Limits.VersionRate, burst: cfg.Limits.VersionRate},
		refusals:  limiter{rate: 10, burst: 20},
		moveLines: limiter{rate: movesRate, burst: movesBurst},
		journal:   newJournal(cfg.Log.Handler()),
		resets:    limiter{rate: resetRate, burst: resetBurst},
		jobs:      make(chan *initJob, maxJobs),
		accepted:  make(chan *Session, cfg.Limits.AcceptQueue),
	}
	srv.cfg.Log = slog.New(srv.journal) // what the configuration has is only for it
	srv.keys.set(cfg.State)
	srv.readdress = readdresser{srv: srv, news: make(chan struct{}, 1), routes: new(netio.Sources)}
	srv.addrs.Store(&srv.cfg.Addresses)
	srv.ctx, srv.cancel = context.WithCancel(context.Background())
	srv.ended, srv.end = context.WithCancel(context.Background())
	return srv
}

// open makes what can fail. Nothing is left open then.
func (srv *Server) open() (err error) {
	if srv.identities, err = newIdentities(srv.cfg); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := srv.openTable(); err != nil {
		return err
	}
	if err := srv.openSockets(); err != nil {
		return errors.Join(err, srv.closeSockets())
	}
	if err := srv.startTraces(); err != nil {
		return errors.Join(err, srv.closeSockets())
	}
	return nil
}

func (srv *Server) openTable() (err error) {
	if srv.cfg.Maps != nil {
		srv.table, err = srv.prepareDataPlane()
	} else {
		srv.table, err = maps.NewMemorySessions(srv.cfg.TableSlots, srv.cfg.ServerID, srv.cfg.State.IDKey)
		if errors.Is(err, maps.ErrSlots) {
			err = fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	if err != nil {
		return err
	}
	if err := srv.table.SetGeneration(srv.cfg.State.Newest()); err != nil {
		return err
	}
	srv.directory = newDirectory(srv.table.Capacity())
	srv.attempts = newAttempts(srv.cfg.Limits.shareHalfOpen(srv.table.Limit(), srv.cfg.Cookie))
	return nil
}

func (srv *Server) start() {
	for range srv.cfg.Workers {
		h := &handshaker{srv: srv, counts: srv.newCounters()}
		srv.handshakers = append(srv.handshakers, h)
		srv.openersWG.Go(h.run)
	}
	for _, w := range srv.workers {
		srv.keepersWG.Go(w.keepTime)
	}
	srv.openersWG.Go(srv.tidy)
	srv.openersWG.Go(srv.readdress.run)
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
