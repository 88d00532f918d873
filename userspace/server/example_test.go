// SPDX-License-Identifier: Apache-2.0

package server_test

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

// A server that answers the first datagram of the first session.
func ExampleListen() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	key := handshake.NewPrivateKey()
	listen := netip.MustParseAddrPort("127.0.0.1:0")

	srv, err := server.Listen(server.Config{Listen: listen, Static: key})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	go visit(ctx, srv.Addr(), key.Public())

	sess, err := srv.Accept(ctx)
	if err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, sess.MaxReceive())
	n, err := sess.ReceiveDatagram(ctx, buf)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("service %d: %s\n", sess.Service(), buf[:n])
	err = sess.SendDatagram(buf[:n])
	if err != nil {
		log.Fatal(err)
	}
	<-sess.Done()
	fmt.Println(sess.Err())
	// Output:
	// service 7: hello
	// session closed by the client: done
}

// visit is a client that says hello and leaves when it is answered.
func visit(ctx context.Context, edge netip.AddrPort, key handshake.PublicKey) {
	sess, err := client.Dial(ctx, client.Config{Servers: []netip.AddrPort{edge}, ServerKey: key, Service: 7})
	if err != nil {
		log.Fatal(err)
	}
	defer sess.Close(wire.CloseDone, "")
	if err := sess.SendDatagram([]byte("hello")); err != nil {
		log.Fatal(err)
	}
	if _, err := sess.ReceiveDatagram(ctx, make([]byte, 100)); err != nil {
		log.Fatal(err)
	}
}
