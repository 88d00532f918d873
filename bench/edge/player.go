// SPDX-License-Identifier: Apache-2.0

//go:build linux

package edge

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Batch is how many packets the server's workers take at a time.
const Batch = 64

// Player is a queue of a server (server.Queue) that plays recorded packets out of
// memory: no kernel has a part in it. It measures how long the worker takes.
type Player struct {
	local netip.AddrPort
	// Between, if set, runs before each batch on the worker's goroutine, outside of
	// the time that is measured: the application reads there.
	Between func()

	frames [Batch][wire.MaxPacket]byte // as the memory of a network card's ring
	given  time.Time                   // when the worker got its last batch
	busy   time.Duration               // of the worker since Play

	mu     sync.Mutex
	list   []Packet
	next   int
	closed bool
	change *sync.Cond
	ended  chan time.Duration
}

// Packet is one that is played.
type Packet struct {
	Data   []byte
	Remote netip.AddrPort
}

// NewPlayer returns a player of packets to an address of the server.
func NewPlayer(local netip.AddrPort) *Player {
	p := &Player{local: local, ended: make(chan time.Duration, 1)}
	p.change = sync.NewCond(&p.mu)
	return p
}

// Play plays packets and returns how long the worker was busy with them.
func (p *Player) Play(list []Packet) time.Duration {
	p.mu.Lock()
	p.list, p.next = list, 0
	p.change.Signal()
	p.mu.Unlock()
	return <-p.ended
}

// ReadBatch implements server.Queue.
func (p *Player) ReadBatch(ms []netio.Message) (int, error) {
	if !p.given.IsZero() {
		p.busy += time.Since(p.given)
		p.given = time.Time{}
		if p.Between != nil {
			p.Between()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.list != nil && p.next == len(p.list) {
		p.list = nil
		p.ended <- p.busy
		p.busy = 0
	}
	for p.list == nil && !p.closed {
		p.change.Wait()
	}
	if p.closed {
		return 0, net.ErrClosed
	}
	n := min(len(ms), Batch, len(p.list)-p.next)
	for i := range n {
		packet := &p.list[p.next+i]
		frame := p.frames[i][:copy(p.frames[i][:], packet.Data)]
		ms[i] = netio.Message{Buf: frame, N: len(frame), Remote: packet.Remote, Local: p.local}
	}
	p.next += n
	p.given = time.Now()
	return n, nil
}

// Drops implements server.Queue.
func (p *Player) Drops() netio.Drops { return netio.Drops{} }

// Close implements server.Queue.
func (p *Player) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.change.Broadcast()
	return nil
}
