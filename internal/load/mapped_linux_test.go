// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// mapped is a client's socket behind a NAT that maps it to a public port: another
// socket, which the NAT may replace at any time without the client's knowledge.
type mapped struct {
	host *host

	reading sync.Mutex // held while conn is read, taken before mu

	mu       sync.Mutex
	conn     netio.Conn // the mapping
	all      []*mapping // with those before it
	deadline time.Time
	closed   bool
	drainers sync.WaitGroup
}

// mapping is one public port. Forgotten, it still takes what is on its way.
type mapping struct {
	netio.Conn
	forgotten bool
	lost      uint64 // what the kernel had dropped until then
}

func (p *mapping) forget() { p.forgotten, p.lost = true, p.Dropped() }

// now returns the mapping, or nil after Close.
func (m *mapped) now() netio.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	return m.conn
}

// rebind replaces the mapping. What still comes to the old one is dropped, and counted.
func (m *mapped) rebind() error {
	old := m.now()
	if old == nil {
		return nil
	}
	conn, err := m.host.open(old.LocalAddr().Addr())
	if err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return conn.Close()
	}
	m.all[len(m.all)-1].forget()
	m.conn, m.all = conn, append(m.all, &mapping{Conn: conn})
	err = conn.SetReadDeadline(m.deadline)
	m.mu.Unlock()
	err = errors.Join(err, old.SetReadDeadline(time.Unix(1, 0)))
	m.reading.Lock()
	//lint:ignore SA2001 once it is locked, the reader has left the old one
	m.reading.Unlock()
	m.drainers.Go(func() { drain(old, time.Time{}, func(n uint64) { m.host.unmapped.Add(n) }) })
	return err
}

// drain reads until the deadline, or until the socket is closed.
func drain(conn netio.Conn, deadline time.Time, count func(uint64)) {
	room := netio.MakeMessages(netio.MaxBatch, netio.TrainRoom)
	if conn.SetReadDeadline(deadline) != nil {
		return
	}
	for {
		n, err := conn.ReadBatch(room)
		if err != nil {
			return
		}
		count(packets(room[:n]))
	}
}

// packets counts those that the messages hold.
func packets(ms []netio.Message) (n uint64) {
	for i := range ms {
		n++
		if size := ms[i].Segment; size > 0 {
			n += uint64((ms[i].N - 1) / size)
		}
	}
	return n
}

// ReadBatch implements netio.Conn.
func (m *mapped) ReadBatch(ms []netio.Message) (int, error) {
	for {
		m.reading.Lock()
		conn := m.now()
		if conn == nil {
			m.reading.Unlock()
			return 0, net.ErrClosed
		}
		n, err := conn.ReadBatch(ms)
		m.reading.Unlock()
		if err != nil {
			if now := m.now(); now == nil {
				return 0, net.ErrClosed
			} else if now != conn && errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			return 0, err
		}
		m.host.read.Add(packets(ms[:n]))
		for i := range ms[:n] {
			if d := ms[i].Data(); len(d) > 0 && d[0] != wire.TypeData {
				m.host.handshakes.Add(packets(ms[i : i+1]))
			}
		}
		return n, nil
	}
}

// WriteBatch implements netio.Conn.
func (m *mapped) WriteBatch(ms []netio.Message) (int, error) {
	conn := m.now()
	if conn == nil {
		return 0, net.ErrClosed
	}
	n, err := conn.WriteBatch(ms)
	m.host.sent.Add(uint64(n))
	if len(ms) == 1 && n == 1 && ms[0].Buf[0] == wire.TypeInit {
		m.host.inits.Add(1)
	}
	return n, err
}

// Dropped implements netio.Conn.
func (m *mapped) Dropped() (n uint64) {
	n, _ = m.drops()
	return n
}

// drops tells what the kernel dropped of the client's from what it dropped at
// mappings that were forgotten.
func (m *mapped) drops() (own, forgotten uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.all {
		if !p.forgotten {
			own += p.Dropped()
			continue
		}
		own += p.lost
		forgotten += p.Dropped() - p.lost
	}
	return own, forgotten
}

// LocalAddr implements netio.Conn.
func (m *mapped) LocalAddr() netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[0].LocalAddr()
}

// SetReadDeadline implements netio.Conn.
func (m *mapped) SetReadDeadline(at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deadline = at
	return m.conn.SetReadDeadline(at)
}

// SyscallConn implements netio.Conn.
func (m *mapped) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

// closeWait is how long a socket that the client closes is read for what waits in it.
const closeWait = time.Millisecond

// Close implements netio.Conn. The mappings stay until the end, for what is on its
// way to them: a NAT forgets them later, too.
func (m *mapped) Close() error {
	m.mu.Lock()
	was, conn := m.closed, m.conn
	m.closed = true
	m.mu.Unlock()
	if was {
		return nil
	}
	err := conn.SetReadDeadline(time.Unix(1, 0))
	m.reading.Lock()
	//lint:ignore SA2001 once it is locked, the reader is gone
	m.reading.Unlock()
	drain(conn, time.Now().Add(closeWait), func(n uint64) { m.host.unread.Add(n) })
	m.mu.Lock()
	m.all[len(m.all)-1].forget()
	m.mu.Unlock()
	m.drainers.Go(func() { drain(conn, time.Time{}, func(n uint64) { m.host.unmapped.Add(n) }) })
	return err
}

// end closes all mappings for good.
func (m *mapped) end() {
	m.mu.Lock()
	all := m.all
	m.mu.Unlock()
	for _, p := range all {
		p.Close()
	}
	m.drainers.Wait()
}
