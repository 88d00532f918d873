// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/forward"
	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/known"
	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// connection is one run of `connect`.
type connection struct {
	env    *env
	report *reporter
	config client.Config // without Service
	idle   time.Duration // of a UDP session
	rules  []forward.Rule
	stdio  uint16 // the service of -W; 0: none

	known    *known.File // nil: nowhere
	remember bool        // the server's key, once it is proven

	tunnels  map[uint16]*tunnel // by service
	sessions sessionList
}

// local is one -L that is listened on.
type local struct {
	rule  forward.Rule
	addr  net.Addr
	open  func(context.Context) error // the first session
	run   func(context.Context) error
	close func()
}

// run forwards until ctx ends, or with -W until the connection does.
func (k *connection) run(ctx context.Context) error {
	k.tunnels = make(map[uint16]*tunnel)
	defer k.sessions.settle(time.Second)
	defer func() {
		for _, t := range k.tunnels {
			t.Close()
		}
	}()
	if k.stdio != 0 {
		return k.runStdio(ctx)
	}
	// All sockets before the first session: a port in use is the commoner mistake.
	var locals []*local
	defer func() {
		for _, l := range locals {
			l.close()
		}
	}()
	for _, rule := range k.rules {
		l, err := k.listen(rule)
		if err != nil {
			return err
		}
		locals = append(locals, l)
	}
	for _, l := range locals {
		err := l.open(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return serviceFault(l.rule, err)
		}
		k.report.emit(&connectEvent{Event: "listening", Service: l.rule.Service, Network: l.rule.Network, Forward: l.addr.String()},
			"%v forwards to service %d (%s)", l.addr, l.rule.Service, l.rule.Network)
	}
	return k.forward(ctx, locals)
}

// routePatience is how long -W waits for a route to the server: nobody tries a second
// time for a program that is started while its host changes networks.
const (
	routePatience = 3 * time.Second
	routeLook     = 100 * time.Millisecond
)

// openPatiently is Open for who may have no network at the moment.
func (t *tunnel) openPatiently(ctx context.Context) error {
	waiting := false
	for began := time.Now(); ; {
		err := t.Open(ctx)
		if !errors.Is(err, client.ErrNoRoute) || time.Since(began) >= routePatience {
			if waiting && err == nil {
				t.k.report.emit(&connectEvent{Event: "route_back", Service: t.service}, "service %d: the route is back", t.service)
			}
			return err
		}
		if !waiting {
			waiting = true
			t.k.report.emit(&connectEvent{Event: "no_route", Service: t.service, Error: err.Error()}, "service %d: waiting: %v", t.service, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(routeLook):
		}
	}
}

// runStdio is -W.
func (k *connection) runStdio(ctx context.Context) error {
	t := k.tunnel(k.stdio)
	if err := t.openPatiently(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return serviceFault(forward.Rule{Service: k.stdio, Network: forward.NetworkTCP}, err)
	}
	err := forward.Stdio(ctx, &t.Tunnel, k.env.stdin, k.env.stdout)
	if canceled(ctx, err) {
		return nil
	}
	return err
}

// forward runs everything until ctx ends or one fails, which ends all.
func (k *connection) forward(ctx context.Context, locals []*local) error {
	ctx, cancel := context.WithCancel(ctx)
	var keepers sync.WaitGroup
	defer keepers.Wait()
	defer cancel()
	for _, t := range k.tunnels {
		keepers.Go(func() { t.keep(ctx) })
	}
	keepers.Go(func() { k.report.keepLine(ctx, k.sessions.line) })
	ended := make(chan error)
	for _, l := range locals {
		go func() {
			err := l.run(ctx)
			cancel()
			ended <- err
		}()
	}
	var first error
	for range locals {
		if err := <-ended; first == nil && !errors.Is(err, context.Canceled) {
			first = err
		}
	}
	return first
}

// listen opens the local socket of a rule.
func (k *connection) listen(rule forward.Rule) (*local, error) {
	if rule.Network == forward.NetworkUDP {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(rule.Local))
		if err != nil {
			return nil, listenFault(rule, err)
		}
		return k.localUDP(rule, conn), nil
	}
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(rule.Local))
	if err != nil {
		return nil, listenFault(rule, err)
	}
	t := k.tunnel(rule.Service)
	f := &forward.TCP{Local: listener, Tunnel: &t.Tunnel, Report: k.report.message}
	return &local{rule: rule, addr: listener.Addr(), open: t.Open, run: f.Run, close: func() { listener.Close() }}, nil
}

func (k *connection) localUDP(rule forward.Rule, conn *net.UDPConn) *local {
	var spare *client.Session
	f := &forward.UDP{Local: conn, Idle: k.idle, Report: k.report.message, Dial: func(ctx context.Context) (forward.Session, error) {
		return k.dial(ctx, rule.Service, false)
	}}
	l := &local{rule: rule, addr: conn.LocalAddr()}
	l.open = func(ctx context.Context) (err error) {
		spare, err = k.dial(ctx, rule.Service, false)
		return err
	}
	l.run = func(ctx context.Context) error { return f.Run(ctx, spare) }
	l.close = func() {
		conn.Close()
		if spare != nil {
			spare.Close(wire.CloseDone, "")
		}
	}
	return l
}

func listenFault(rule forward.Rule, err error) error {
	f := &fault{what: fmt.Sprintf("cannot listen on %v (%s)", rule.Local, rule.Network), err: err}
	if owners := portOwners(rule.Network, rule.Local.Port()); len(owners) > 0 {
		f.fix = fmt.Sprintf("the port is used by %s; name another one", owners[0])
	}
	return f
}

// serviceFault says which service an error is about, and what is wrong with the
// kind of the service if that may be it.
func serviceFault(rule forward.Rule, err error) error {
	err = fmt.Errorf("service %d: %w", rule.Service, err)
	if errors.Is(err, stream.ErrNoStreams) {
		return &fault{err: err, fix: fmt.Sprintf("if it is a UDP service, append /udp: -L PORT:%d/udp", rule.Service)}
	}
	return err
}

// dial opens a session and tells of it. streams: where the server has lost it, it
// ends, rather than that another one takes its place unseen.
func (k *connection) dial(ctx context.Context, service uint16, streams bool) (*client.Session, error) {
	c := k.config
	c.Service, c.NoReopen = service, streams
	n := k.sessions.begin(service)
	c.OnEvent = func(event client.Event) { k.tell(n, service, event) }
	s, err := client.Dial(ctx, c)
	if err != nil {
		k.sessions.end(n)
		return nil, err
	}
	k.sessions.opened(n, s)
	k.report.emit(&connectEvent{
		Event: "connected", Session: n, Service: service, Local: text(s.LocalAddr()), Remote: text(s.RemoteAddr()), Interface: interfaceOf(s.LocalAddr().Addr()),
		ServerKey: k.config.ServerKey.String(), PublicKey: s.PublicKey().String(),
	}, "service %d: connected to %v (key %v) %s", service, s.RemoteAddr(), k.config.ServerKey, k.who())
	k.rememberKey()
	return s, nil
}

func (k *connection) who() string {
	if k.config.Identity.IsZero() {
		return "anonymously"
	}
	return "as " + k.config.Identity.Public().String()
}

// tunnel is a forward.Tunnel that knows of its session's end.
type tunnel struct {
	forward.Tunnel
	k       *connection
	service uint16

	mu     sync.Mutex // guards what follows, of the session that was opened last
	opened time.Time
	ended  <-chan struct{}
}

// tunnel returns the one of a service, which all its forwards share.
func (k *connection) tunnel(service uint16) *tunnel {
	if t := k.tunnels[service]; t != nil {
		return t
	}
	t := &tunnel{k: k, service: service}
	t.Report = func(format string, args ...any) {
		k.report.message(fmt.Sprintf("service %d: ", service)+format, args...)
	}
	t.Dial = func(ctx context.Context) (forward.StreamSession, error) {
		s, err := k.dial(ctx, service, true)
		if err != nil {
			return nil, err
		}
		t.mu.Lock()
		t.opened, t.ended = time.Now(), s.Done()
		t.mu.Unlock()
		return s, nil
	}
	k.tunnels[service] = t
	return t
}

// The pauses between tries to open a session again.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// keep opens the tunnel's session again whenever it has ended, until ctx ends, so
// that the next connection finds one. Connections that come meanwhile try by
// themselves. A session that has lasted is followed by another one at once; after one
// that ended soon, and after a failure, there are pauses.
func (t *tunnel) keep(ctx context.Context) {
	for pause := time.Duration(0); ; {
		t.mu.Lock()
		opened, ended := t.opened, t.ended
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
		if time.Since(opened) >= lastPause {
			pause = 0
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			err := t.Open(ctx)
			if ctx.Err() != nil {
				return
			}
			pause = min(max(2*pause, firstPause), lastPause)
			pause += rand.N(pause / 4) // not in step with the other clients of a server that was away
			if err == nil {
				break // and t.ended is of the session that is open now
			}
			t.k.report.emit(&connectEvent{Event: "retrying", Service: t.service, Error: err.Error(), RetryIn: int64(pause)},
				"service %d: no session: %v; next try in %v", t.service, err, pause.Round(time.Second/10))
		}
	}
}
