// SPDX-License-Identifier: Apache-2.0

//go:build linux

package edge

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/server"
)

// Loopback is a server with one worker on the loopback, without a data plane, and
// clients whose recorded packets it plays to itself.
type Loopback struct {
	Player   *Player
	Server   *server.Server
	Sessions []*server.Session // in the order of Clients
	Clients  []*Client
}

// NewLoopback makes a server with sessions for datagrams of size. The caller closes it.
func NewLoopback(ctx context.Context, sessions, size int) (l *Loopback, err error) {
	l = &Loopback{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	l.Server, err = server.Listen(server.Config{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: handshake.NewPrivateKey(), Workers: 1, Cookie: server.CookieNever,
	})
	if err != nil {
		return l, err
	}
	l.Player = NewPlayer(l.Server.Addr())
	if _, err := l.Server.AddQueue(l.Player); err != nil {
		return l, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for range sessions {
		c, err := dial(ctx, nil, netip.MustParseAddr("127.0.0.1"), l.Server.Addr(), l.Server.PublicKey(), size)
		if err != nil {
			return l, err
		}
		l.Clients = append(l.Clients, c)
		s, err := l.Server.Accept(ctx)
		if err != nil {
			return l, err
		}
		l.Sessions = append(l.Sessions, s)
	}
	return l, nil
}

// Play has the clients take turns to make datagrams of size, at least n in all, and
// plays them to the worker. It returns how many there were and how long the worker was
// busy with them.
func (l *Loopback) Play(n, size int) (played int, busy time.Duration, err error) {
	each := Burst / len(l.Clients)
	list := make([]Packet, each*len(l.Clients))
	memory := make([]byte, 0, len(list)*packetLen(size))
	for ; played < n; played += len(list) {
		memory = memory[:0]
		for i, c := range l.Clients {
			at := i
			err := c.Record(each, size, func(packet []byte) error {
				start := len(memory)
				memory = append(memory, packet...)
				list[at] = Packet{memory[start:len(memory):len(memory)], c.Addr()}
				at += len(l.Clients)
				return nil
			})
			if err != nil {
				return played, busy, err
			}
		}
		busy += l.Player.Play(list)
	}
	return played, busy, nil
}

// Close ends all.
func (l *Loopback) Close() error {
	var errs []error
	for _, c := range l.Clients {
		errs = append(errs, c.Close())
	}
	if l.Server != nil {
		errs = append(errs, l.Server.Close())
	}
	return errors.Join(errs...)
}

// Drain reads what has come to the sessions and returns how many datagrams.
func Drain(sessions []*server.Session, l *inbox.Loan) (n int) {
	for _, s := range sessions {
		for {
			datagrams, err := s.ReceiveDatagrams(atOnce, l)
			if err != nil {
				break
			}
			n += len(datagrams)
			if len(datagrams) < inbox.MaxLoan {
				break
			}
		}
	}
	l.Return()
	return n
}

// atOnce is for reads that do not wait.
var atOnce = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()
