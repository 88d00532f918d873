// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/relay"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/service"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
)

// tcpBench is an edge over loopback in front of a TCP echo, and a tunnel to it.
type tcpBench struct {
	t       *testing.T
	echo    net.Listener
	srv     *server.Server
	tunnel  *Tunnel
	dialled atomic.Int32
	refuse  atomic.Bool // dialling fails
	open    atomic.Int32

	mu    sync.Mutex
	lines []string
}

func newTCPBench(t *testing.T) *tcpBench {
	t.Helper()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newTCPBenchBefore(t, echo)
	go b.serveEcho(echo)
	return b
}

// newTCPBenchBefore is a tcpBench before another backend.
func newTCPBenchBefore(t *testing.T, listener net.Listener) *tcpBench {
	t.Helper()
	b := &tcpBench{t: t, echo: listener}
	backend, err := service.New("tcp://"+b.echo.Addr().String(), service.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := handshake.NewPrivateKey()
	if b.srv, err = server.Listen(server.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: key, Workers: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			s, err := b.srv.Accept(ctx)
			if err != nil {
				return
			}
			wait.Go(func() { backend.Serve(ctx, s) })
		}
	})
	b.tunnel = &Tunnel{Report: b.report, Dial: func(ctx context.Context) (StreamSession, error) {
		b.dialled.Add(1)
		if b.refuse.Load() {
			return nil, errors.New("no way there")
		}
		return client.Dial(ctx, client.Config{Servers: []netip.AddrPort{b.srv.Addr()}, ServerKey: key.Public(), Service: 7, NoReopen: true})
	}}
	t.Cleanup(func() {
		b.tunnel.Close()
		cancel()
		wait.Wait()
		b.srv.Close()
		b.echo.Close()
	})
	return b
}

func (b *tcpBench) serveEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		b.open.Add(1)
		go func() {
			defer b.open.Add(-1)
			defer c.Close()
			if _, err := io.Copy(c, c); err == nil {
				c.(*net.TCPConn).CloseWrite()
			}
		}()
	}
}

func (b *tcpBench) report(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, fmt.Sprintf(format, args...))
}

func (b *tcpBench) said(part string) {
	b.t.Helper()
	b.until(fmt.Sprintf("it says %q", part), func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return strings.Contains(strings.Join(b.lines, "\n"), part)
	})
}

func (b *tcpBench) until(what string, f func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("never: %s; it said %q", what, b.lines)
		}
	}
}

// forward starts a TCP forwarder and returns where it listens.
func (b *tcpBench) forward(ctx context.Context) (address string, ended <-chan error) {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	f := &TCP{Local: l, Tunnel: b.tunnel, Report: b.report}
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return l.Addr().String(), done
}

func (b *tcpBench) dial(address string) *net.TCPConn {
	b.t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// ping has one byte sent back. A reset may meet it at any of its steps.
func ping(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

func TestTCPForward(t *testing.T) {
	b := newTCPBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	address, ended := b.forward(ctx)
	var wait sync.WaitGroup
	for i := range 50 {
		c := b.dial(address)
		wait.Go(func() {
			data := bytes.Repeat([]byte{byte(i)}, 20_000)
			c.Write(data)
			c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("connection %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wait.Wait()
	if n := b.dialled.Load(); n != 1 {
		t.Errorf("%d sessions for 50 connections, want one", n)
	}
	b.until("the backend's connections end", func() bool { return b.open.Load() == 0 })
	// The end of the forwarder resets what is open.
	c := b.dial(address)
	c.Write([]byte("x"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an open connection: %v", err)
	}
	if err := <-ended; err != context.Canceled {
		t.Errorf("Run: %v", err)
	}
	b.until("the backend's connections end", func() bool { return b.open.Load() == 0 })
}

// What fails is a reset for the program and a sentence for the person.
func TestTCPForwardRefused(t *testing.T) {
	b := newTCPBench(t)
	address, _ := b.forward(t.Context())
	b.refuse.Store(true)
	for range 20 {
		if err := ping(address); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("without a session: %v", err)
		}
	}
	b.said("no way there")
	if n := b.dialled.Load(); n > 10 {
		t.Errorf("20 connections have caused %d handshakes", n)
	}
	b.refuse.Store(false)
	b.until("a connection succeeds", func() bool { return ping(address) == nil })

	b.echo.Close()
	b.until("nothing listens", func() bool { return errors.Is(ping(address), syscall.ECONNRESET) })
	b.said("the server refused the connection: nothing listens at the service's address")
}

// After the session's end the next connection opens another one.
func TestTunnelAgain(t *testing.T) {
	b := newTCPBench(t)
	address, _ := b.forward(t.Context())
	for i := range int32(3) {
		c := b.dial(address)
		c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if n := b.dialled.Load(); n != i+1 {
			t.Errorf("%d sessions, want %d", n, i+1)
		}
		b.tunnel.mu.Lock()
		session := b.tunnel.current.session
		b.tunnel.mu.Unlock()
		session.Close(0, "")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection of an ended session: %v", err)
		}
	}
	b.said("session ended")
	b.tunnel.Close()
	if _, err := b.tunnel.Connect(t.Context()); !errors.Is(err, stream.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// closer is an output that tells when it is closed.
type closer struct{ closed chan struct{} }

func (closer) Write(p []byte) (int, error) { return len(p), nil }

func (c closer) Close() error {
	close(c.closed)
	return nil
}

func TestStdio(t *testing.T) {
	b := newTCPBench(t)
	in, feed := io.Pipe()
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- Stdio(t.Context(), b.tunnel, in, &out) }()
	feed.Write([]byte("hello "))
	feed.Write([]byte("world"))
	feed.Close() // a half-close; the echo still answers
	if err := <-done; err != nil || out.String() != "hello world" {
		t.Errorf("%q, %v", out.String(), err)
	}

	// What comes behind the end of the answer arrives, too, and a session that is lost
	// meanwhile is an error.
	half, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	early := newTCPBenchBefore(t, half)
	for _, lose := range []bool{false, true} {
		in, feed = io.Pipe()
		ended := make(chan struct{})
		go func() { done <- Stdio(t.Context(), early.tunnel, in, closer{ended}) }()
		feed.Write([]byte("x"))
		c, err := half.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).CloseWrite()
		<-ended
		if lose {
			early.tunnel.mu.Lock()
			session := early.tunnel.current.session
			early.tunnel.mu.Unlock()
			session.Close(0, "")
			go func(feed *io.PipeWriter) { // the stream takes some before it knows
				for {
					if _, err := feed.Write(make([]byte, 10_000)); err != nil {
						return
					}
				}
			}(feed)
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Errorf("a session that is lost: %v", err)
			}
			in.Close()
			break
		}
		got := make(chan int64, 1)
		go func() {
			n, _ := io.Copy(io.Discard, c)
			got <- n
		}()
		const size = 50_000
		feed.Write(make([]byte, size))
		feed.Close()
		if err := <-done; err != nil {
			t.Errorf("behind the end: %v", err)
		}
		early.tunnel.Close()
		if n := <-got; n != size+1 {
			t.Errorf("%d bytes of %d came", n, size+1)
		}
		early = newTCPBenchBefore(t, half)
	}

	// A context that ends leaves at once, whatever in does.
	ctx, cancel := context.WithCancel(t.Context())
	in, feed = io.Pipe()
	go func() { done <- Stdio(ctx, b.tunnel, in, io.Discard) }()
	feed.Write([]byte("x"))
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	feed.CloseWithError(errors.New("disk on fire"))

	// A part must not pass for the whole.
	in, feed = io.Pipe()
	go func() { done <- Stdio(t.Context(), b.tunnel, in, io.Discard) }()
	feed.Write([]byte("x"))
	feed.CloseWithError(errors.New("disk on fire"))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("a bad input: %v", err)
	}

	b.echo.Close()
	var refused *relay.RefusedError
	if err := Stdio(t.Context(), b.tunnel, strings.NewReader(""), io.Discard); !errors.As(err, &refused) {
		t.Errorf("without a backend: %v", err)
	}
}

// A server that does not know the question whether a stream is over is no error: what
// comes behind the end of its answer gets a moment to arrive.
func TestStdioBeforeOlderServer(t *testing.T) {
	b := newTCPBench(t)
	key := handshake.NewPrivateKey()
	srv, err := server.Listen(server.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: key, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	got := make(chan int64, 1)
	go func() {
		s, err := srv.Accept(t.Context())
		if err != nil {
			return
		}
		m, err := stream.Server(t.Context(), s, stream.Config{})
		if err != nil {
			return
		}
		defer m.Close()
		for {
			one, err := m.Accept(t.Context())
			if err != nil {
				return
			}
			go func() {
				r, err := relay.Accept(one, nil)
				if err != nil {
					return
				}
				if _, err := r.Connected(); err == nil && one.CloseWrite() == nil {
					n, _ := io.Copy(io.Discard, one)
					got <- n
				}
			}()
		}
	}()
	b.tunnel.Dial = func(ctx context.Context) (StreamSession, error) {
		return client.Dial(ctx, client.Config{Servers: []netip.AddrPort{srv.Addr()}, ServerKey: key.Public(), Service: 7, NoReopen: true})
	}
	in, feed := io.Pipe()
	ended, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Stdio(t.Context(), b.tunnel, in, closer{ended}) }()
	<-ended
	const size = 10_000
	feed.Write(make([]byte, size))
	feed.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := <-got; n != size {
		t.Errorf("%d bytes of %d came", n, size)
	}
}

// ssh says its last words, closes the pipe and sends SIGHUP at once: the words arrive,
// and behind them an end and no reset.
func TestStdioHangup(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newTCPBenchBefore(t, l)
	ctx, hangup := context.WithCancel(t.Context())
	defer hangup()
	in, feed := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Stdio(ctx, b.tunnel, in, io.Discard) }()
	words := bytes.Repeat([]byte("disconnect"), 5_000)
	go func() {
		feed.Write(words)
		feed.Close()
		hangup()
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, words) {
		t.Errorf("%d bytes of %d came, %v", len(got), len(words), err)
	}
	c.Close()
	if err := <-done; err != nil && err != context.Canceled {
		t.Error(err)
	}
}
