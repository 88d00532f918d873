// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A client that asks service 7 and prints what it answers.
func ExampleDial() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	edge, err := newEcho(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer edge.Close()
	servers, serverKey := []netip.AddrPort{edge.Addr()}, edge.key.Public() // else client.Resolve and a configured key

	sess, err := client.Dial(ctx, client.Config{Servers: servers, ServerKey: serverKey, Service: 7})
	if err != nil {
		log.Fatal(err)
	}
	defer sess.Close(wire.CloseDone, "")
	err = sess.SendDatagram([]byte("hello"))
	if err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, err := sess.ReceiveDatagram(ctx, buf)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", buf[:n])
	// Output:
	// hello
}

// echo is a server that sends back what one session sends.
type echo struct {
	*server.Server
	key handshake.PrivateKey
}

func newEcho(ctx context.Context) (*echo, error) {
	key := handshake.NewPrivateKey()
	srv, err := server.Listen(server.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: key})
	if err != nil {
		return nil, err
	}
	go func() {
		sess, err := srv.Accept(ctx)
		if err != nil {
			return
		}
		buf := make([]byte, sess.MaxReceive())
		for {
			n, err := sess.ReceiveDatagram(ctx, buf)
			if err != nil {
				return // the client is done
			}
			if err := sess.SendDatagram(buf[:n]); err != nil {
				return
			}
		}
	}()
	return &echo{srv, key}, nil
}
