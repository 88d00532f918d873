// SPDX-License-Identifier: Apache-2.0

//go:build linux

package roam

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

var start = time.Now()

// now is the one clock of every measurement: monotonic, the same for both ends.
func now() time.Duration { return time.Since(start) }

// sleepUntil waits in the kernel: the runtime's timers are a millisecond late in
// a process that is idle, which is as much as is to be measured here.
func sleepUntil(t time.Duration) {
	for left := t - now(); left > 0; left = t - now() {
		ts := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&ts, nil) // interrupted: there is something left
	}
}

// queued is how many packets a direction of a link holds before it drops: some
// 100 ms of a stream.
const queued = 1 << 9

// packet is on its way through a link.
type packet struct {
	data          []byte
	remote, local netip.AddrPort
	via           *mapping
	due           time.Duration // when it comes out
}

// mapping is a socket that the link's packets leave from, as a NAT's outer port is.
type mapping struct {
	netio.Conn
	gone atomic.Bool // nothing comes in by it any more
	in   []netio.Message
}

func newMapping() *mapping { return &mapping{in: netio.MakeMessages(32, 2048)} }

// link is a client's socket behind a delay of its own in each direction.
type link struct {
	netio.Conn // the first mapping's, for its address
	delay      time.Duration
	cut        atomic.Bool // nothing enters it and nothing comes out at the client
	via        atomic.Pointer[mapping]
	up, down   chan packet
	mapped     chan *mapping // the first, once it is open
	closed     chan struct{}
	close      sync.Once

	mu      sync.Mutex
	late    chan struct{} // closed when the read deadline has passed
	waiting *time.Timer   // for that
}

// newLink is a link without a socket yet. What a client does not do in a move (the
// memory, and the goroutines that stand for the network) is done here, before it.
func newLink(delay time.Duration) *link {
	l := &link{delay: delay, up: make(chan packet, queued), down: make(chan packet, queued), closed: make(chan struct{}),
		late: make(chan struct{}), mapped: make(chan *mapping, 1)}
	go l.carryUp()
	first := newMapping()
	l.via.Store(first)
	go func() {
		select {
		case <-l.mapped:
			l.carryDown(first)
		case <-l.closed:
		}
	}()
	return l
}

// open gives the link its first socket.
func (l *link) open(addr netip.Addr) error {
	m := l.via.Load()
	if err := m.open(addr); err != nil {
		return err
	}
	l.Conn = m.Conn
	l.mapped <- m
	return nil
}

func (m *mapping) open(addr netip.Addr) (err error) {
	m.Conn, err = netio.ListenUDP(netio.Config{Addr: netip.AddrPortFrom(addr, 0), ReadBuffer: 1 << 20})
	return err
}

// rebind gives the link another source port, of which neither end is told.
func (l *link) rebind() error {
	m := newMapping()
	if err := m.open(l.LocalAddr().Addr()); err != nil {
		return err
	}
	go l.carryDown(m)
	old := l.via.Swap(m)
	old.gone.Store(true)
	time.AfterFunc(2*l.delay, func() { old.Close() }) // what is on its way still leaves by it
	return nil
}

// WriteBatch implements netio.Conn.
func (l *link) WriteBatch(ms []netio.Message) (int, error) {
	for _, m := range ms {
		if l.cut.Load() {
			continue
		}
		p := packet{append([]byte(nil), m.Buf...), m.Remote, m.Local, l.via.Load(), now() + l.delay}
		select {
		case <-l.closed:
			return 0, net.ErrClosed
		case l.up <- p:
		default:
		}
	}
	return len(ms), nil
}

// carryUp brings packets to the server, also those that a closed socket had sent.
func (l *link) carryUp() {
	write := func(p packet) {
		sleepUntil(p.due)
		_, _ = p.via.WriteBatch([]netio.Message{{Buf: p.data, Remote: p.remote}}) // refused: lost on the way
	}
	for {
		select {
		case p := <-l.up:
			write(p)
		case <-l.closed:
			for {
				select {
				case p := <-l.up:
					write(p)
				default:
					if m := l.via.Load(); m.Conn != nil {
						m.Close()
					}
					return
				}
			}
		}
	}
}

// carryDown takes what comes to a mapping until that is closed.
func (l *link) carryDown(m *mapping) {
	in := m.in
	for {
		n, err := m.ReadBatch(in)
		if err != nil {
			return
		}
		for i := range in[:n] {
			if m.gone.Load() {
				continue
			}
			p := packet{append([]byte(nil), in[i].Data()...), in[i].Remote, in[i].Local, m, now() + l.delay}
			select {
			case l.down <- p:
			default:
			}
		}
	}
}

// ReadBatch implements netio.Conn, one packet at a time.
func (l *link) ReadBatch(ms []netio.Message) (int, error) {
	for {
		l.mu.Lock()
		late := l.late
		l.mu.Unlock()
		select {
		case <-l.closed:
			return 0, net.ErrClosed
		case <-late:
			return 0, os.ErrDeadlineExceeded
		case p := <-l.down:
			sleepUntil(p.due)
			if l.cut.Load() || p.via.gone.Load() {
				continue
			}
			ms[0].N = copy(ms[0].Buf, p.data)
			ms[0].Remote, ms[0].Local, ms[0].Segment = p.remote, p.local, 0
			return 1, nil
		}
	}
}

// Dropped implements netio.Conn.
func (l *link) Dropped() uint64 { return 0 }

// SetReadDeadline implements netio.Conn.
func (l *link) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting != nil && !l.waiting.Stop() {
		l.late = make(chan struct{}) // that one has passed, or is about to
	}
	l.waiting = nil
	if !t.IsZero() {
		late := l.late
		l.waiting = time.AfterFunc(time.Until(t), func() { close(late) })
	}
	return nil
}

// Close implements netio.Conn.
func (l *link) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}
