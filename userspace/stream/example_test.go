// SPDX-License-Identifier: Apache-2.0

package stream_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A client that sends a file's worth of bytes on one stream, and hears how many came.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	key := handshake.NewPrivateKey()
	srv, err := server.Listen(server.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: key})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	go count(ctx, srv)

	sess, err := client.Dial(ctx, client.Config{Servers: []netip.AddrPort{srv.Addr()}, ServerKey: key.Public(), Service: 7, NoReopen: true})
	if err != nil {
		log.Fatal(err)
	}
	defer sess.Close(wire.CloseDone, "")
	mux, err := stream.Client(ctx, sess, stream.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer mux.Close()
	conn, err := mux.Open(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, 1_000_000)); err != nil {
		log.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		log.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", answer)
	// Output: 1000000 bytes came
}

// count is a server that counts what comes on the first stream of its first session.
func count(ctx context.Context, srv *server.Server) {
	sess, err := srv.Accept(ctx)
	if err != nil {
		log.Fatal(err)
	}
	mux, err := stream.Server(ctx, sess, stream.Config{})
	if err != nil {
		log.Fatal(err)
	}
	conn, err := mux.Accept(ctx)
	if err != nil {
		log.Fatal(err)
	}
	n, err := io.Copy(io.Discard, conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintf(conn, "%d bytes came", n)
	conn.CloseWrite()
	<-mux.Done() // the client has read it
}
