// SPDX-License-Identifier: Apache-2.0

// Package forward is the local end of `xdp-roam connect`: it listens where
// applications expect their service and carries what they send through
// sessions.
package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Session is what forwarding needs of a client's session.
type Session interface {
	// ReceiveDatagrams waits for the next datagram and lends what else is there too; its
	// error ends the session.
	ReceiveDatagrams(ctx context.Context, l *inbox.Loan) ([][]byte, error)
	SendDatagram(p []byte) error
	// Done is closed when the session is over.
	Done() <-chan struct{}
	// Close tells the server and may wait for it a moment.
	Close(code wire.CloseCode, reason string) error
}

// Sizes of UDP's bookkeeping.
const (
	maxDatagram = 65535
	// maxFlows bounds the sessions that local programs can cause.
	maxFlows = 1024
	// crowd is from how many flows on a new one takes the place of the one that is idle
	// longest, if that is for pause at least. DNS clients take another port for each
	// question, and a server allows each key but some sessions (64 unless told
	// otherwise), which other forwards and processes need, too.
	crowd = 24
	pause = time.Second
	// maxQueued datagrams of a flow wait while its session is dialled; later ones are lost, as UDP loses them.
	maxQueued = 64
	// retryAfter a failed handshake, or the beginning of a session that has ended, the
	// next datagram may cause another one.
	retryAfter = time.Second
)

// UDP forwards one local UDP socket: each local address that sends to it gets
// a session of its own, and what comes back on the session goes to that
// address.
type UDP struct {
	Local *net.UDPConn
	// Dial opens a session. It is called once for each local address, again after that session ended.
	Dial func(context.Context) (Session, error)
	// Idle ends a session on which nothing went either way for so long.
	Idle time.Duration
	// Report tells the person what happens; called from several goroutines.
	Report func(format string, args ...any)

	mu    sync.Mutex // guards flows and spare
	flows map[netip.AddrPort]*flow
	spare Session
	wait  sync.WaitGroup
}

// flow is one local address and its session.
type flow struct {
	peer    netip.AddrPort
	active  atomic.Int64 // when something went through last, on the monotonic clock of epoch
	refused atomic.Bool  // a datagram was refused, and that was reported
	ending  atomic.Bool  // its session is being closed

	mu      sync.Mutex // guards what follows
	session Session    // nil while it is dialled
	queue   [][]byte   // waits for session
	lost    int        // of queue, for want of room
}

var epoch = time.Now()

func (f *flow) touch() { f.active.Store(int64(time.Since(epoch))) }

// idle is for how long nothing went through.
func (f *flow) idle() time.Duration { return time.Since(epoch) - time.Duration(f.active.Load()) }

// Run forwards until ctx ends or the local socket fails, then closes every
// session. spare, which may be nil, is an open session for the first local
// address.
func (u *UDP) Run(ctx context.Context, spare Session) error {
	u.mu.Lock()
	u.flows = make(map[netip.AddrPort]*flow)
	u.spare = spare
	u.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer u.wait.Wait()
	defer u.closeSpare()
	defer cancel() // each flow closes its own session
	// A deadline in the past ends the read below.
	defer context.AfterFunc(ctx, func() { u.Local.SetReadDeadline(epoch) })()
	u.wait.Go(func() { u.sweep(ctx) })

	buffer := make([]byte, maxDatagram)
	for {
		n, peer, err := u.Local.ReadFromUDPAddrPort(buffer)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("local socket: %w", err)
		case err != nil:
			// An ICMP error of an earlier answer: that program is gone, the others are not.
			continue
		}
		u.outbound(ctx, peer, buffer[:n])
	}
}

// outbound carries one datagram of a local program.
func (u *UDP) outbound(ctx context.Context, peer netip.AddrPort, datagram []byte) {
	u.mu.Lock()
	f := u.flows[peer]
	if f == nil {
		if len(u.flows) >= maxFlows {
			u.mu.Unlock()
			u.Report("%s: refused: %d local addresses have sessions already", peer, maxFlows)
			return
		}
		if len(u.flows) >= crowd {
			u.replace()
		}
		f = &flow{peer: peer}
		f.touch()
		u.flows[peer] = f
		u.wait.Go(func() { u.serve(ctx, f) })
	}
	u.mu.Unlock()

	f.touch()
	f.mu.Lock()
	session := f.session
	if session == nil {
		if len(f.queue) < maxQueued {
			f.queue = append(f.queue, append([]byte(nil), datagram...))
		} else {
			f.lost++
		}
	}
	f.mu.Unlock()
	if session != nil {
		u.send(f, session, datagram)
	}
}

func (u *UDP) send(f *flow, session Session, datagram []byte) {
	err := session.SendDatagram(datagram)
	// The end of the session is reported by serve, another failure the first time.
	if err != nil && !errors.Is(err, net.ErrClosed) && !f.refused.Swap(true) {
		u.Report("%s: a datagram was not sent, as others may not be: %v", f.peer, err)
	}
}

// serve dials the flow's session and carries what comes back until it ends.
func (u *UDP) serve(ctx context.Context, f *flow) {
	defer u.forget(f)
	session, err := u.open(ctx)
	if err != nil {
		if ctx.Err() == nil {
			u.Report("%s: %v", f.peer, err)
		}
		rest(ctx, retryAfter)
		return
	}
	opened := time.Now()
	u.Report("%s: session open", f.peer)
	f.mu.Lock()
	f.session = session
	queue, lost := f.queue, f.lost
	f.queue = nil
	for _, datagram := range queue {
		u.send(f, session, datagram)
	}
	f.mu.Unlock()
	if lost > 0 {
		u.Report("%s: %d datagrams lost while the session was opened", f.peer, lost)
	}
	var loan inbox.Loan
	for {
		datagrams, err := session.ReceiveDatagrams(ctx, &loan)
		if err != nil {
			if ctx.Err() == nil {
				u.Report("%s: session ended: %v", f.peer, err)
			}
			session.Close(wire.CloseDone, "")
			rest(ctx, retryAfter-time.Since(opened)) // where the server ends each as soon as it has begun
			return
		}
		f.touch()
		for _, d := range datagrams {
			// A local program that is gone is found out by the idle time, as for any UDP server.
			_, _ = u.Local.WriteToUDPAddrPort(d, f.peer)
		}
	}
}

// rest keeps a flow without a session for a while, which drops what comes, so that a
// chatty program does not become a flood of handshakes.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// open takes the spare session or dials one.
func (u *UDP) open(ctx context.Context) (Session, error) {
	u.mu.Lock()
	spare := u.spare
	u.spare = nil
	u.mu.Unlock()
	if spare != nil {
		if alive(spare) {
			return spare, nil
		}
		spare.Close(wire.CloseDone, "") // frees what an ended session still holds
	}
	return u.Dial(ctx)
}

// alive is false for a session that ended while it waited for its first use.
func alive(s Session) bool {
	select {
	case <-s.Done():
		return false
	default:
		return true
	}
}

func (u *UDP) forget(f *flow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.flows, f.peer)
}

// replace ends the session that is idle longest. mu is held.
func (u *UDP) replace() {
	var oldest *flow
	for _, f := range u.flows {
		if !f.ending.Load() && (oldest == nil || f.active.Load() < oldest.active.Load()) {
			oldest = f
		}
	}
	if oldest != nil && oldest.idle() >= pause {
		u.end(oldest, "idle, while another program needs a session")
	}
}

// end closes a flow's session, if it has one yet.
func (u *UDP) end(f *flow, reason string) {
	f.mu.Lock()
	session := f.session
	f.mu.Unlock()
	if session != nil && !f.ending.Swap(true) {
		// Its end wakes serve. Closing waits for the server: not one after the other.
		u.wait.Go(func() { session.Close(wire.CloseDone, reason) })
	}
}

// sweep ends idle sessions.
func (u *UDP) sweep(ctx context.Context) {
	ticker := time.NewTicker(max(u.Idle/4, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, f := range u.snapshot() {
			if f.idle() >= u.Idle {
				u.end(f, "idle")
			}
		}
	}
}

func (u *UDP) snapshot() []*flow {
	u.mu.Lock()
	defer u.mu.Unlock()
	flows := make([]*flow, 0, len(u.flows))
	for _, f := range u.flows {
		flows = append(flows, f)
	}
	return flows
}

func (u *UDP) closeSpare() {
	u.mu.Lock()
	spare := u.spare
	u.spare = nil
	u.mu.Unlock()
	if spare != nil {
		spare.Close(wire.CloseDone, "")
	}
}
