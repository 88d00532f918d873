// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/relay"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/service"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A server whose service 22 is a TCP server, and a client of that.
func ExampleNew() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	backend := newGreeter()
	defer backend.Close()
	ssh, err := service.New("tcp://"+backend.Addr().String(), service.Limits{ClientSessions: 4}, nil)
	if err != nil {
		log.Fatal(err)
	}
	key := handshake.NewPrivateKey()
	srv, err := server.Listen(server.Config{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: key,
		HasService: func(port uint16) bool { return port == 22 },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	go func() {
		for {
			sess, err := srv.Accept(ctx)
			if err != nil {
				return
			}
			go ssh.Serve(ctx, sess)
		}
	}()

	sess, err := client.Dial(ctx, client.Config{Servers: []netip.AddrPort{srv.Addr()}, ServerKey: key.Public(), Service: 22, NoReopen: true})
	if err != nil {
		log.Fatal(err)
	}
	defer sess.Close(wire.CloseDone, "")
	mux, err := stream.Client(ctx, sess, stream.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer mux.Close()
	conn, err := relay.Dial(ctx, mux)
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", text)
	// Output: hello from the backend
}

// newGreeter is a TCP server that says hello and hangs up.
func newGreeter() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "hello from the backend")
			conn.Close()
		}
	}()
	return l
}
