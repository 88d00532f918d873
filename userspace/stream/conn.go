// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// packetSize is that of every QUIC packet that is full: the smallest that QUIC
// allows, and one DATA packet on every path but an IPv6 one whose MTU is not
// known to exceed 1280 yet (there the session sends two parts, and that makes it
// look for the MTU). A larger one would be split after each move, and for good on
// a path of a smaller MTU, since QUIC never goes back to smaller packets.
const packetSize = 1200

// The first byte tells datagrams apart: every QUIC packet of ours has the bit
// quicBit set (RFC 9000 section 17), and no other datagram has.
const (
	quicBit = 0x40
	longBit = 0x80
	// resume says that its sender has found the path again, and nothing else follows.
	resume = 0x01
)

// address is what QUIC takes both ends for.
type address struct{}

func (address) Network() string { return "roam" }
func (address) String() string  { return "session" }

// conn is a session as QUIC's socket.
type conn struct {
	session Session
	life    context.Context
	end     context.CancelFunc
	server  bool
	begun   bool // something of QUIC has come; the reader's own
	out     sender
}

func newConn(s Session, server bool) *conn {
	c := &conn{session: s, server: server, out: newSender(s)}
	c.life, c.end = context.WithCancel(context.Background())
	go c.out.run(c.life)
	return c
}

// ReadFrom implements net.PacketConn.
func (c *conn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, err := c.session.ReceiveDatagram(c.life, p)
		switch {
		case errors.Is(err, io.ErrShortBuffer):
			continue // none of QUIC's is that large
		case c.life.Err() != nil:
			return 0, nil, net.ErrClosed
		case err != nil:
			return 0, nil, err
		}
		if n > 0 && p[0]&quicBit != 0 {
			if c.server && !c.begun && p[0]&longBit == 0 {
				return 0, nil, ErrNoStreams
			}
			c.begun = true
			return n, address{}, nil
		}
		switch {
		case n == 1 && p[0] == resume:
			c.out.replay(time.Now())
		case c.server && !c.begun:
			return 0, nil, ErrNoStreams
		}
	}
}

// WriteTo implements net.PacketConn. An error here would end QUIC, so there is
// none but the session's end: what is not sent is lost, and QUIC sends it again.
func (c *conn) WriteTo(p []byte, _ net.Addr) (int, error) {
	if err := c.out.put(c.life, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// recovered makes both ends send their newest packets again. RESUME goes first: the
// peer's answers to ours would soon be its newest.
func (c *conn) recovered() {
	_, _ = c.session.SendDatagrams([][]byte{{resume}})
	c.out.replay(time.Now())
}

// Close implements net.PacketConn.
func (c *conn) Close() error {
	c.end()
	return nil
}

// SetReadDeadline implements net.PacketConn: quic-go sets one to stop reading,
// for no other purpose.
func (c *conn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		c.end()
	}
	return nil
}

// LocalAddr implements net.PacketConn.
func (c *conn) LocalAddr() net.Addr { return address{} }

// SetDeadline implements net.PacketConn.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn: writing never waits.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer and SetWriteBuffer are asked for by quic-go, which would
// complain on stderr that it has no UDP socket.
func (c *conn) SetReadBuffer(int) error  { return nil }
func (c *conn) SetWriteBuffer(int) error { return nil }
