// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/relay"
)

// maxConnections bounds the connections of local programs on one forward.
const maxConnections = 1024

// TCP forwards a local listener: each connection that comes is a stream of the
// tunnel's session, and one connection of the service's backend.
type TCP struct {
	// Local is a *net.TCPListener or a *net.UnixListener; Run closes it.
	Local  net.Listener
	Tunnel *Tunnel
	// Report tells the person what happens; called from several goroutines.
	Report func(format string, args ...any)
}

// Run forwards until ctx ends or the listener fails, then resets what is left.
// It leaves the Tunnel open.
func (t *TCP) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { t.Local.Close() })()
	defer t.Local.Close()
	slots := make(chan struct{}, maxConnections)
	for {
		conn, err := t.Local.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return ctx.Err()
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("local socket: %w", err)
		case err != nil:
			// Out of file descriptors, or a connection that was gone before it was taken.
			t.Report("%s: a connection was not accepted: %v", t.Local.Addr(), err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		local, ok := conn.(relay.Local)
		if !ok {
			conn.Close()
			return fmt.Errorf("local socket: %T has no half-close", conn)
		}
		select {
		case slots <- struct{}{}:
		default:
			t.Report("%s: refused: %d connections are open already", name(conn), maxConnections)
			conn.Close()
			continue
		}
		wait.Go(func() {
			defer func() { <-slots }()
			t.serve(ctx, local)
		})
	}
}

// serve forwards one connection.
func (t *TCP) serve(ctx context.Context, local relay.Local) {
	remote, err := t.Tunnel.Connect(ctx)
	if err != nil {
		if tcp, ok := local.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset says that it failed; an end of file would be an empty answer
		}
		local.Close()
		if ctx.Err() == nil {
			t.Report("%s: %v", name(local), err)
		}
		return
	}
	if _, err := (relay.Pump{}).Run(ctx, local, remote); err != nil && ctx.Err() == nil {
		t.Report("%s: %v", name(local), relay.Explain(err))
	}
}

// name is what a line about a connection begins with.
func name(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil && a.String() != "" && a.String() != "@" {
		return a.String()
	}
	return c.LocalAddr().String() // a unix socket's clients have no address
}
