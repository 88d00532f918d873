// SPDX-License-Identifier: Apache-2.0

// Command sendfile sends a file to recvfile. This host may change its networks
// meanwhile, as often as it likes.
//
//	sendfile HOST:7626 KEY FILE       prints the file's SHA-256, which the receiver has found too
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 4 {
		log.Fatal("usage: sendfile HOST:PORT KEY FILE")
	}
	sum, err := send(ctx, os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sum)
}

// send sends a file and compares what the receiver has got of it.
func send(ctx context.Context, address, keyText, path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	var key handshake.PublicKey
	if err := key.UnmarshalText([]byte(keyText)); err != nil {
		return "", err
	}
	sess, err := client.Dial(ctx, client.Config{Server: address, ServerKey: key, NoReopen: true})
	if err != nil {
		return "", err
	}
	defer sess.Close(wire.CloseDone, "")
	mux, err := stream.Client(ctx, sess, stream.Config{})
	if err != nil {
		return "", err
	}
	defer mux.Close()
	defer context.AfterFunc(ctx, func() { mux.Close() })()
	conn, err := mux.Open(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(conn, filepath.Base(path))
	sum := sha256.New()
	_, sending := io.Copy(conn, io.TeeReader(file, sum))
	if sending == nil {
		sending = conn.CloseWrite()
	}
	answer, err := io.ReadAll(conn) // also when it stopped reading: it says why
	if err != nil {
		return "", err
	}
	if want := fmt.Sprintf("%x", sum.Sum(nil)); sending != nil || string(answer) != want {
		return "", fmt.Errorf("the receiver says %q (%v)", answer, sending)
	}
	return string(answer), nil
}
