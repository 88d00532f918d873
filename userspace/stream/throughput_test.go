// SPDX-License-Identifier: Apache-2.0

package stream_test

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// overLoopback opens the streams of a session between two sockets of this host.
func overLoopback(tb testing.TB) (near, far *stream.Stream) {
	tb.Helper()
	key := handshake.NewPrivateKey()
	srv, err := server.Listen(server.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: key})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { srv.Close() })
	accepted := make(chan *stream.Stream, 1)
	go func() {
		defer close(accepted)
		s, err := srv.Accept(tb.Context())
		if err != nil {
			return
		}
		m, err := stream.Server(tb.Context(), s, stream.Config{})
		if err != nil {
			tb.Error(err)
			return
		}
		one, err := m.Accept(tb.Context())
		if err != nil {
			tb.Error(err)
			return
		}
		accepted <- one
	}()
	s, err := client.Dial(tb.Context(), client.Config{Servers: []netip.AddrPort{srv.Addr()}, ServerKey: key.Public(), Service: 7, NoReopen: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close(wire.CloseDone, "") })
	m, err := stream.Client(context.Background(), s, stream.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	if near, err = m.Open(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if _, err := near.Write([]byte{0}); err != nil {
		tb.Fatal(err)
	}
	if far = <-accepted; far == nil {
		tb.Fatal("no stream came")
	}
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		tb.Fatal(err)
	}
	return near, far
}

// What one stream carries between two ends on this host, both of them at work.
func BenchmarkStream(b *testing.B) {
	for name, ends := range map[string]func(near, far *stream.Stream) (from, to *stream.Stream){
		"up":   func(near, far *stream.Stream) (*stream.Stream, *stream.Stream) { return near, far },
		"down": func(near, far *stream.Stream) (*stream.Stream, *stream.Stream) { return far, near },
	} {
		b.Run(name, func(b *testing.B) {
			from, to := ends(overLoopback(b))
			const chunk = 64 << 10
			b.SetBytes(chunk)
			b.ReportAllocs()
			var wg sync.WaitGroup
			wg.Go(func() {
				if n, err := io.Copy(io.Discard, readOnly{to}); n != int64(b.N)*chunk || err != nil {
					b.Errorf("%d bytes of %d came, %v", n, int64(b.N)*chunk, err)
				}
			})
			p := make([]byte, chunk)
			for b.Loop() {
				if _, err := from.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			from.CloseWrite()
			wg.Wait()
		})
	}
}

type readOnly struct{ io.Reader }
