// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/xdp-roam/xdp-roam/userspace/relay"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// streams is a TCP or unix service: each stream of a session is one connection.
type streams struct {
	spec, network, address string
	proxy                  bool // the backend is told the client's address
}

func (b *streams) String() string { return b.spec }

const (
	// streamsPatience is how long a session may go without opening its streams.
	streamsPatience = 30 * time.Second
	// spareStreams more than a client may have can be open in QUIC, so that the one
	// too many is refused with a reason instead of waiting.
	spareStreams = 16
)

func (b *streams) serve(ctx context.Context, s *Service, c Conn) error {
	opening, cancel := context.WithTimeout(ctx, streamsPatience)
	mux, err := stream.Server(opening, c, stream.Config{MaxStreams: s.gate.limits.ClientStreams + spareStreams})
	cancel()
	if err != nil {
		if errors.Is(err, stream.ErrNoStreams) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return c.Close(wire.CloseServiceGone, "this service carries streams and no datagrams: ask for it as TCP")
		}
		return finish(ctx, c, err)
	}
	life, end := context.WithCancel(ctx)
	var wait sync.WaitGroup
	served := new(relay.Served)
	for {
		one, err := mux.Accept(ctx)
		if err != nil {
			break
		}
		over := served.Begin(one.ID())
		wait.Go(func() {
			defer over()
			b.connect(life, s, c, one, served)
		})
	}
	end() // resets all, while there is still someone to tell
	wait.Wait()
	mux.Close()
	if ctx.Err() != nil {
		return finish(ctx, c, ctx.Err())
	}
	return c.Close(wire.CloseDone, "")
}

// connect serves one stream.
func (b *streams) connect(ctx context.Context, s *Service, c Conn, one *stream.Stream, served *relay.Served) {
	// Before the Pump looks after it, no peer that stands still may hold it up.
	defer context.AfterFunc(ctx, func() { one.Reset(relay.CodeShutdown) })()
	request, err := relay.Accept(one, served)
	if err != nil {
		return
	}
	leave, refusal := s.gate.stream(c.PeerKey())
	if refusal != "" {
		s.tellRefusal("stream_refused", c, refusal)
		request.Refuse(relay.StatusLimit, refusal)
		return
	}
	defer leave()
	conn, err := b.dial(ctx, s, c, one)
	if err != nil {
		if one.Context().Err() == nil {
			s.failed(err)
		}
		no := why(err)
		request.Refuse(no.status, no.text)
		return
	}
	s.worked()
	remote, err := request.Connected()
	if err != nil {
		one.Reset(relay.CodeNone)
		conn.Close()
		return
	}
	pump := relay.Pump{Idle: s.gate.limits.IdleTimeout, Throttle: throttle(s.gate.rates(c.PeerKey()))}
	_, _ = pump.Run(ctx, conn, remote) // how it ended is the two ends' own affair
}

// dial connects to the backend, unless the client loses interest meanwhile.
func (b *streams) dial(ctx context.Context, s *Service, c Conn, one *stream.Stream) (relay.Local, error) {
	ctx, cancel := context.WithTimeout(ctx, s.gate.limits.ConnectTimeout)
	defer cancel()
	defer context.AfterFunc(one.Context(), cancel)()
	conn, err := dial(ctx, b.network, b.address)
	if err != nil {
		return nil, err
	}
	if b.proxy {
		deadline, _ := ctx.Deadline()
		_ = conn.SetWriteDeadline(deadline)
		if err := writeProxy(conn, c); err != nil {
			conn.Close()
			return nil, err
		}
		_ = conn.SetWriteDeadline(time.Time{})
	}
	return conn.(relay.Local), nil // of TCP and unix, both have a half-close
}

// writeProxy writes a PROXY protocol v2 header: the client's validated address,
// the server's that it speaks to, and the session's id for the backend's log.
// The session may move later; the header cannot.
func writeProxy(conn net.Conn, c Conn) error {
	from, to := c.RemoteAddr(), c.LocalAddr()
	if !to.Addr().IsValid() { // the socket did not tell
		to = netip.AddrPortFrom(netip.IPv6Unspecified(), to.Port())
		if from.Addr().Unmap().Is4() {
			to = netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port())
		}
	}
	unmap := func(a netip.AddrPort) *net.TCPAddr {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()))
	}
	header := proxyproto.HeaderProxyFromAddrs(2, unmap(from), unmap(to))
	if err := header.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte(c.ID().String())}}); err != nil {
		return err
	}
	_, err := header.WriteTo(conn)
	return err
}

// throttle returns what a relay.Pump asks; nil without rates.
func throttle(rates []*rate) func(up bool, n int) time.Duration {
	if len(rates) == 0 {
		return nil
	}
	return func(up bool, n int) time.Duration {
		now := time.Now()
		var wait time.Duration
		for _, r := range rates {
			b := &r.toService
			if up { // from the backend's connection
				b = &r.toClient
			}
			wait = max(wait, b.take(n, now))
		}
		return wait
	}
}
