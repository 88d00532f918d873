// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/service"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

var _ service.Conn = (*server.Session)(nil)

// network is a client's network that consists of one loopback address at a time.
type network struct {
	client.HostNetwork
	mu      sync.Mutex
	local   netip.Addr
	changed func()
}

var errNoRoute = errors.New("no route")

func (n *network) Source(remote netip.AddrPort) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.local.Is4() != remote.Addr().Is4() {
		return netip.Addr{}, errNoRoute
	}
	return n.local, nil
}

func (n *network) Ways(remote netip.AddrPort) []client.Way {
	addr, err := n.Source(remote)
	if err != nil {
		return nil
	}
	return []client.Way{{Addr: addr}}
}

func (n *network) Listen(way client.Way) (netio.Conn, error) {
	return netio.ListenUDP(netio.Config{Addr: netip.AddrPortFrom(way.Addr, 0)})
}

func (n *network) Watch(ctx context.Context, changed func()) error {
	n.mu.Lock()
	n.changed = changed
	n.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (n *network) become(local string) {
	n.mu.Lock()
	n.local = netip.MustParseAddr(local)
	changed := n.changed
	n.mu.Unlock()
	changed()
}

// TestClient is the product as a library: this server with the echo backend,
// the real client, and an address that changes, also of family.
func TestClient(t *testing.T) {
	identity := handshake.NewPrivateKey()
	srv, err := server.Listen(server.Config{
		Listen: netip.MustParseAddrPort("[::]:0"), Static: handshake.NewPrivateKey(), Workers: 2, Cookie: server.CookieAlways,
		Authorize: func(k handshake.PublicKey, _ uint16) server.Access {
			return server.Access{Name: "alice", Allowed: k == identity.Public()}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	echo, err := service.New("echo:", service.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	net := &network{local: netip.MustParseAddr("127.0.0.1")}
	port := srv.Addr().Port()
	cfg := client.Config{
		Servers:   []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), netip.AddrPortFrom(netip.IPv6Loopback(), port)},
		ServerKey: srv.PublicKey(), Identity: identity, Service: 7, Network: net,
	}
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := srv.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- echo.Serve(ctx, s) }()

	p := make([]byte, 5000)
	for i, local := range []string{"127.0.0.1", "127.0.0.2", "::1", "127.0.0.1"} {
		if i > 0 {
			net.become(local)
		}
		// Asked again until it is answered: datagrams may be lost in a move.
		want := fmt.Sprintf("%d from %s", i, local)
		for got := ""; got != want; {
			if err := c.SendDatagram([]byte(want)); err != nil {
				t.Fatal(err)
			}
			once, done := context.WithTimeout(ctx, 200*time.Millisecond)
			n, err := c.ReceiveDatagram(once, p)
			done()
			if ctx.Err() != nil {
				t.Fatalf("at %s: no echo: %v", local, err)
			}
			got = string(p[:n])
		}
		for s.RemoteAddr().Addr() != netip.MustParseAddr(local) {
			if ctx.Err() != nil {
				t.Fatalf("the server has the client at %v, it is at %s", s.RemoteAddr(), local)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if s.Service() != 7 || s.PeerName() != "alice" || s.PeerKey() != identity.Public() {
		t.Errorf("service %d, peer %q %v", s.Service(), s.PeerName(), s.PeerKey())
	}
	if st := srv.Stats(); st.RoamsCommitted != 3 || st.Opened != 1 || st.Packets[server.AuthFailed] != 0 {
		t.Errorf("stats %+v", st)
	}
	if err := c.Close(wire.CloseDone, "thanks"); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Errorf("the service: %v", err)
	}
	var closed *server.ClosedError
	if !errors.As(s.Err(), &closed) || !closed.Remote || closed.Reason != "thanks" {
		t.Errorf("the session ended with %v", s.Err())
	}

	// A stranger is told so.
	cfg.Identity = handshake.NewPrivateKey()
	var refused *client.RefusedError
	if _, err := client.Dial(ctx, cfg); !errors.As(err, &refused) || refused.Status != wire.StatusNotAuthorised {
		t.Errorf("a stranger: %v", err)
	}
}
