// SPDX-License-Identifier: Apache-2.0

// Command chat is a chat room whose members may change their networks. They need
// no program but xdp-roam: every line of a member goes to all.
//
//	chat 0.0.0.0:7626                 prints its KEY
//	xdp-roam connect HOST:7626 -W 7 --server-key KEY
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"sync"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/relay"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listen, err := netip.ParseAddrPort(os.Args[len(os.Args)-1])
	if err != nil {
		log.Fatalf("%v; usage: chat ADDRESS:PORT", err)
	}
	srv, err := server.Listen(server.Config{Listen: listen, Static: handshake.NewPrivateKey()})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close() // tells the members
	fmt.Println(srv.Addr(), srv.PublicKey())
	var members sync.Map // chan string -> nothing
	for {
		sess, err := srv.Accept(ctx)
		if err != nil {
			return // interrupted
		}
		go func() {
			defer sess.Close(wire.CloseDone, "")
			if err := host(ctx, sess, &members); err != nil {
				log.Printf("%.6s: %v", sess.PeerKey(), err)
			}
		}()
	}
}

// host serves one member, who is called by the key that he has proven to have.
func host(ctx context.Context, sess *server.Session, members *sync.Map) error {
	mux, err := stream.Server(ctx, sess, stream.Config{MaxStreams: 1})
	if err != nil {
		return err
	}
	defer mux.Close()
	conn, err := mux.Accept(ctx)
	if err != nil {
		return err
	}
	request, err := relay.Accept(conn, nil) // as `xdp-roam connect` begins a stream
	if err != nil {
		return err
	}
	if _, err := request.Connected(); err != nil {
		return err
	}
	lines := make(chan string, 1000) // who is away for more of them misses some
	members.Store(lines, nil)
	defer members.Delete(lines)
	go func() {
		for {
			select {
			case line := <-lines:
				fmt.Fprintln(conn, line)
			case <-mux.Done():
				return
			}
		}
	}()
	in := bufio.NewScanner(conn)
	for in.Scan() {
		members.Range(func(member, _ any) bool {
			select {
			case member.(chan string) <- fmt.Sprintf("%.6s: %s", sess.PeerKey(), in.Text()):
			default:
			}
			return true
		})
	}
	return in.Err()
}
