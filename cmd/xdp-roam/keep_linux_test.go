// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A tunnel whose session has ended gets another one at once, and from a server that
// ends each as soon as it has begun, one after a pause.
func TestTunnelIsKept(t *testing.T) {
	key := handshake.NewPrivateKey()
	srv, err := server.Listen(server.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: key, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	opened := make(chan time.Time, 100)
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait.Go(func() {
		for {
			s, err := srv.Accept(ctx)
			if err != nil {
				return
			}
			if _, err := stream.Server(ctx, s, stream.Config{}); err == nil {
				opened <- time.Now()
			}
			_ = s.Close(wire.CloseServiceGone, "that is all")
		}
	})
	e, _, _ := testEnv(formatTable)
	k := &connection{env: e, report: newReporter(e, &connectOptions{}), config: client.Config{Servers: []netip.AddrPort{srv.Addr()}, ServerKey: key.Public()}, tunnels: map[uint16]*tunnel{}}
	tunnel := k.tunnel(7)
	defer tunnel.Close()
	until(t, "the first session is open", func() bool { return tunnel.Open(ctx) == nil }) // it may end before it is told so
	for len(opened) > 1 {
		<-opened
	}
	wait.Go(func() { tunnel.keep(ctx) })
	var at [4]time.Time
	for i := range at {
		select {
		case at[i] = <-opened:
		case <-time.After(patience):
			t.Fatalf("session %d is not opened", i)
		}
	}
	for i, least := range []time.Duration{0, firstPause, 2 * firstPause} {
		// The pause begins at the client, which hears of the end a moment after the server has begun it.
		if pause := at[i+1].Sub(at[i]); pause < least {
			t.Errorf("session %d was opened %v after the one before, want at least %v", i+1, pause, least)
		}
	}
	// The second comes at once. A busy machine may take its time, but not as long as the
	// pauses have become meanwhile.
	if first, last := at[1].Sub(at[0]), at[3].Sub(at[2]); first >= last {
		t.Errorf("the second session was opened %v after the first, the fourth %v after the third", first, last)
	}
}
