// SPDX-License-Identifier: Apache-2.0

// Command recvfile receives the files that sendfile sends.
//
//	recvfile 0.0.0.0:7626 DIRECTORY   prints its KEY
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"strings"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 3 {
		log.Fatal("usage: recvfile ADDRESS:PORT DIRECTORY")
	}
	listen, err := netip.ParseAddrPort(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	root, err := os.OpenRoot(os.Args[2]) // no name that comes leads out of it
	if err != nil {
		log.Fatal(err)
	}
	srv, err := server.Listen(server.Config{Listen: listen, Static: handshake.NewPrivateKey()})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close() // tells the senders
	fmt.Println(srv.Addr(), srv.PublicKey())
	for {
		sess, err := srv.Accept(ctx)
		if err != nil {
			return // interrupted
		}
		go serve(ctx, sess, root)
	}
}

// serve receives one file.
func serve(ctx context.Context, sess *server.Session, root *os.Root) {
	defer sess.Close(wire.CloseDone, "")
	mux, err := stream.Server(ctx, sess, stream.Config{MaxStreams: 1})
	if err != nil {
		return
	}
	defer mux.Close()
	conn, err := mux.Accept(ctx)
	if err != nil {
		return
	}
	answer, err := receive(conn, root)
	if err != nil {
		conn.CloseRead(1) // the sender need not send the rest
		answer = err.Error()
	}
	fmt.Fprint(conn, answer)
	_ = conn.CloseWrite()
	<-mux.Done() // the sender has read it
}

// receive writes one file and returns its SHA-256.
func receive(conn io.Reader, root *os.Root) (string, error) {
	in := bufio.NewReader(conn)
	name, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	name = strings.TrimSuffix(name, "\n")
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, sum), in)
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(err, root.Remove(name)) // half a file is none
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
