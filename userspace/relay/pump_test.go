// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/stream"
)

// goodbye is a stream whose peer ends in order, a moment after the end came to it.
type goodbye struct {
	ended chan struct{}
	last  string
	gone  func() // waits until the local program is
}

func (g *goodbye) Read(p []byte) (int, error) {
	<-g.ended
	if g.last != "" {
		n := copy(p, g.last)
		g.last = ""
		return n, nil
	}
	g.gone()
	return 0, io.EOF
}

func (g *goodbye) Write(p []byte) (int, error) { return len(p), nil }

func (g *goodbye) CloseWrite() error {
	close(g.ended)
	return nil
}
func (*goodbye) CloseRead(stream.Code) {}
func (*goodbye) Reset(stream.Code)     {}

func (*goodbye) ResetInOrder(stream.Code) {}

// A program that closes before it was told goodbye, as a WebSocket's does, has
// ended in order: the system's answer to the goodbye, a reset, is no failure.
func TestPumpEndsWhereTheProgramIsGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	program, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	local := conn.(*net.TCPConn)
	remote := &goodbye{ended: make(chan struct{}), last: "goodbye", gone: func() {
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if _, err := local.Write([]byte("again")); err != nil { // the reset has come
				return
			}
		}
	}}
	program.Close()
	if _, err := (Pump{}).Run(context.Background(), local, remote); err != nil {
		t.Error(err)
	}
}
