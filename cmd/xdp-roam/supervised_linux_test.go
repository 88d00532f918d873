// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/server"
)

// manager is the socket on which a service manager listens.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, conn, path}
}

// hear waits for a message that has the line, and returns it; "" if none comes by the deadline.
func (m *manager) hear(line string, deadline time.Time) string {
	m.t.Helper()
	m.conn.SetReadDeadline(deadline)
	for buffer := make([]byte, 4096); ; {
		n, err := m.conn.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ""
		} else if err != nil {
			m.t.Fatal(err)
		}
		text := string(buffer[:n])
		for one := range strings.Lines(text) {
			if strings.TrimSpace(one) == line {
				return text
			}
		}
	}
}

func (m *manager) mustHear(line string) string {
	m.t.Helper()
	text := m.hear(line, time.Now().Add(patience))
	if text == "" {
		m.t.Fatalf("the service manager is not told %s", line)
	}
	return text
}

// The service manager hears that the edge is ready when it answers, is alive, reads
// its files again, and stops.
func TestServiceManagerIsTold(t *testing.T) {
	b := newLabBench(t)
	m := newManager(t)
	cmd := b.command(b.edgeArgs("--interface", "edge0")...)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=400000")
	daemon := b.startProgram(b.edge, cmd)
	if text := m.mustHear("READY=1"); !strings.Contains(text, "STATUS=mode afxdp on edge0, 0 sessions, 0 of 4096 slots") {
		t.Errorf("when ready it says %q", text)
	}
	if code, _, stderr := b.run("status"); code != exitOK {
		t.Errorf("ready, and status ends with %d: %s", code, stderr)
	}
	for range 3 {
		m.mustHear("WATCHDOG=1")
	}
	if err := daemon.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if text := m.mustHear("RELOADING=1"); !strings.Contains(text, "MONOTONIC_USEC=") {
		t.Errorf("at SIGHUP it says %q", text)
	}
	m.mustHear("READY=1")
	if code := daemon.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("ended with %d", code)
	}
	m.mustHear("STOPPING=1")
	b.nothingLeft()
}

// A server whose handshaker hangs is not reported alive any more, and is again when
// it goes on.
func TestWatchdogStarves(t *testing.T) {
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	var door sync.Mutex
	srv, err := server.Listen(server.Config{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: handshake.NewPrivateKey(), Workers: 1, TableSlots: 64,
		Authorize: func(handshake.PublicKey, uint16) server.Access {
			door.Lock()
			defer door.Unlock()
			return server.Access{}
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &edge{env: &env{stderr: io.Discard, now: time.Now}, log: slog.New(slog.DiscardHandler), server: srv, drain: newDrain()}
	ctx, cancel := context.WithCancel(context.Background())
	const limit = 200 * time.Millisecond
	d.background.Go(func() { d.feedWatchdog(ctx, limit) })
	t.Cleanup(func() {
		cancel()
		d.background.Wait()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	m.mustHear("WATCHDOG=1")

	door.Lock()
	dialing, stop := context.WithCancel(ctx)
	dialed := make(chan struct{})
	go func() {
		defer close(dialed)
		_, _ = client.Dial(dialing, client.Config{Servers: []netip.AddrPort{srv.Addr()}, ServerKey: srv.PublicKey(), Service: 7, Identity: handshake.NewPrivateKey()})
	}()
	until(t, "the watchdog is not fed for a whole period", func() bool { return m.hear("WATCHDOG=1", time.Now().Add(limit)) == "" })
	door.Unlock()
	m.mustHear("WATCHDOG=1")
	stop()
	<-dialed
}
