// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/relay"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// edge is a server over loopback with one service behind it.
type edge struct {
	t       *testing.T
	srv     *server.Server
	key     handshake.PrivateKey
	service *Service
	end     context.CancelFunc
	wait    sync.WaitGroup
}

func newEdge(t *testing.T, spec string, limits Limits) *edge {
	t.Helper()
	e := &edge{t: t, key: handshake.NewPrivateKey(), service: newService(t, spec, limits)}
	var err error
	if e.srv, err = server.Listen(server.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: e.key, Workers: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.end = cancel
	e.wait.Go(func() {
		for {
			s, err := e.srv.Accept(ctx)
			if err != nil {
				return
			}
			e.wait.Go(func() {
				if err := e.service.Serve(ctx, s); err != nil {
					t.Errorf("serve: %v", err)
				}
			})
		}
	})
	t.Cleanup(e.close)
	return e
}

func (e *edge) close() {
	e.end()
	e.wait.Wait()
	e.srv.Close()
}

// dial opens a session and its streams.
func (e *edge) dial() (*client.Session, *stream.Mux) {
	e.t.Helper()
	s, err := client.Dial(e.t.Context(), client.Config{
		Servers: []netip.AddrPort{e.srv.Addr()}, ServerKey: e.key.Public(), Service: 7, NoReopen: true,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { s.Close(wire.CloseDone, "") })
	m, err := stream.Client(e.t.Context(), s, stream.Config{MaxStreams: -1})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { m.Close() })
	return s, m
}

// connect opens a stream.
func connect(t *testing.T, m *stream.Mux) *relay.Conn {
	t.Helper()
	c, err := relay.Dial(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// backend is a TCP service whose connections a test holds itself.
func newBackend(t *testing.T) (*net.TCPListener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener), "tcp://" + l.Addr().String()
}

func accept(t *testing.T, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	l.SetDeadline(time.Now().Add(patience))
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// pair is one stream and the backend's end of it, with nothing sent yet.
func pair(t *testing.T) (near *relay.Conn, far *net.TCPConn) {
	t.Helper()
	l, spec := newBackend(t)
	_, m := newEdge(t, spec, Limits{}).dial()
	near = connect(t, m)
	far = accept(t, l)
	if err := near.Answer(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func TestTCP(t *testing.T) {
	near, far := pair(t)
	// The backend speaks first, as ssh does.
	far.Write([]byte("SSH-2.0\r\n"))
	if line, err := bufio.NewReader(io.LimitReader(near, 9)).ReadString('\n'); line != "SSH-2.0\r\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MB
	var wg sync.WaitGroup
	for _, end := range []io.ReadWriter{near, far} {
		wg.Go(func() {
			if _, err := end.Write(data); err != nil {
				t.Error(err)
			}
			end.(relayEnd).CloseWrite()
		})
		wg.Go(func() {
			if got, err := io.ReadAll(end); err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
				t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
			}
		})
	}
	wg.Wait()
}

type relayEnd interface{ CloseWrite() error }

// A half-close of either end leaves the other direction open.
func TestTCPHalfClose(t *testing.T) {
	for _, name := range []string{"client", "backend"} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			var first, second io.ReadWriter = near, far
			if name == "backend" {
				first, second = far, near
			}
			first.Write([]byte("request"))
			first.(relayEnd).CloseWrite()
			if got, err := io.ReadAll(second); string(got) != "request" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			second.Write([]byte("answer"))
			second.(relayEnd).CloseWrite()
			if got, err := io.ReadAll(first); string(got) != "answer" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}

// A reset of either end is a reset of the other one, not an end of file.
func TestTCPReset(t *testing.T) {
	t.Run("backend", func(t *testing.T) {
		near, far := pair(t)
		far.Write([]byte("part"))
		if _, err := io.ReadFull(near, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		far.SetLinger(0)
		far.Close()
		var reset *stream.ResetError
		if _, err := near.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.Code != relay.CodeReset || !reset.Remote {
			t.Errorf("read: %v", err)
		}
		until(t, "writing fails", func() bool {
			_, err := near.Write([]byte("x"))
			return errors.As(err, &reset) && reset.Remote
		})
	})
	t.Run("client", func(t *testing.T) {
		near, far := pair(t)
		near.Write([]byte("part"))
		if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		near.Reset(relay.CodeReset)
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("session", func(t *testing.T) {
		l, spec := newBackend(t)
		s, m := newEdge(t, spec, Limits{}).dial()
		near := connect(t, m)
		far := accept(t, l)
		if err := near.Answer(); err != nil {
			t.Fatal(err)
		}
		s.Close(wire.CloseDone, "")
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the client's end: %v", err)
		}
	})
	t.Run("shutdown", func(t *testing.T) {
		l, spec := newBackend(t)
		e := newEdge(t, spec, Limits{})
		s, m := e.dial()
		near := connect(t, m)
		far := accept(t, l)
		if err := near.Answer(); err != nil {
			t.Fatal(err)
		}
		e.close()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if _, err := near.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("the client's end: %v", err)
		}
		<-s.Done()
	})
}

// A backend that does not read stops the client, and what waits is bounded.
func TestTCPBackPressure(t *testing.T) {
	near, far := pair(t)
	var sent atomic.Int64
	done := make(chan struct{})
	chunk := make([]byte, 64<<10)
	go func() {
		defer close(done)
		for range 64 << 20 / len(chunk) {
			if _, err := near.Write(chunk); err != nil {
				t.Error(err)
				return
			}
			sent.Add(int64(len(chunk)))
		}
		near.CloseWrite()
	}()
	var last int64
	until(t, "the writer stops", func() bool {
		before := sent.Load()
		time.Sleep(200 * time.Millisecond)
		last = sent.Load()
		return before == last && last > 0
	})
	// The stream's window, and the kernel's buffers of the backend's connection.
	if last >= 32<<20 {
		t.Errorf("%d MB were taken for a backend that reads nothing", last>>20)
	}
	if n, err := io.Copy(io.Discard, far); n != 64<<20 || err != nil {
		t.Errorf("%d bytes came in the end, %v", n, err)
	}
	<-done
}

// What a backend has said before it resets the connection arrives before the reset, as
// the answer of a web server to a request that it did not want to read; and the reset
// is one even where the system told it to the direction of the request.
func TestTCPResetBehindAnswer(t *testing.T) {
	l, spec := newBackend(t)
	_, m := newEdge(t, spec, Limits{}).dial()
	for range 50 {
		near := connect(t, m)
		if err := near.Answer(); err != nil {
			t.Fatal(err)
		}
		near.Write([]byte("request"))
		far := accept(t, l)
		answer := make([]byte, 10_000)
		far.Write(answer)
		far.SetLinger(0)
		far.Close()
		var reset *stream.ResetError
		if got, err := io.ReadAll(near); len(got) != len(answer) || !errors.As(err, &reset) || reset.Code != relay.CodeReset {
			t.Fatalf("%d bytes of %d came, then %v", len(got), len(answer), err)
		}
	}
}

// A backend that is down is named to the client, and tried again by the next stream.
func TestTCPBackendDown(t *testing.T) {
	address, free := testutil.Unserved(t, "tcp")
	e := newEdge(t, "tcp://"+address, Limits{})
	s, m := e.dial()
	for range 2 {
		c := connect(t, m)
		var refused *relay.RefusedError
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &refused) || refused.Status != relay.StatusRefused ||
			!strings.Contains(refused.Reason, "nothing listens") {
			t.Fatalf("%v", err)
		}
		until(t, "writing fails", func() bool {
			_, err := c.Write([]byte("x"))
			return err != nil
		})
	}
	free()
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := connect(t, m).Answer(); err != nil {
		t.Errorf("the backend is back: %v", err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("the session ended with its backend: %v", err)
	}
	if u := e.service.Use(); u.Failures != 2 || u.StreamsServed != 3 || u.SessionsServed != 1 || u.Sessions != 1 {
		t.Errorf("counted %+v", u)
	}
}

// Every failure is a sentence that says nothing of what lies behind the server.
func TestReasons(t *testing.T) {
	op := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
	}
	for want, c := range map[string]struct {
		err    error
		status relay.Status
	}{
		"nothing listens at the service's address":                       {op(syscall.ECONNREFUSED), relay.StatusRefused},
		"the service's socket does not exist":                            {op(syscall.ENOENT), relay.StatusRefused},
		"the service's name cannot be resolved":                          {&net.DNSError{Name: "secret.internal", IsNotFound: true}, relay.StatusUnreachable},
		"the service's host cannot be reached":                           {op(syscall.EHOSTUNREACH), relay.StatusUnreachable},
		"the service did not answer in time":                             {&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, relay.StatusTimeout},
		"the server may not connect to the service's socket":             {op(syscall.EACCES), relay.StatusFailed},
		"the service closed the connection at once":                      {op(syscall.ECONNRESET), relay.StatusFailed},
		"the server has no room for another connection; try again later": {op(syscall.EMFILE), relay.StatusLimit},
		"operation not supported":                                        {op(syscall.EOPNOTSUPP), relay.StatusFailed},
		"the service failed":                                             {errors.New("secret.internal"), relay.StatusFailed},
	} {
		if got := why(fmt.Errorf("wrapped: %w", c.err)); got.status != c.status || got.text != want || got.fix == "" {
			t.Errorf("%v: %+v, want %v %q", c.err, got, c.status, want)
		}
	}
}

func TestUnix(t *testing.T) {
	name := filepath.Join(t.TempDir(), "app.sock")
	e := newEdge(t, "unix://"+name, Limits{})
	_, m := e.dial()
	var refused *relay.RefusedError
	if err := connect(t, m).Answer(); !errors.As(err, &refused) || refused.Reason != "the service's socket does not exist" {
		t.Errorf("without a socket: %v", err)
	}
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near := connect(t, m)
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near.Write([]byte("hello"))
	near.CloseWrite()
	if got, err := io.ReadAll(far); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	far.Write([]byte("bye"))
	far.(*net.UnixConn).CloseWrite()
	if got, err := io.ReadAll(near); string(got) != "bye" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A unix socket whose program is slow to accept makes a connection wait, as TCP does,
// and fail in time.
func TestUnixBacklog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "app.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0) // net.Listen takes the longest backlog
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: name}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first, err := net.Dial("unix", name) // fills the backlog
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()

	_, late := newEdge(t, "unix://"+name, Limits{ConnectTimeout: 100 * time.Millisecond}).dial()
	var refused *relay.RefusedError
	if err := connect(t, late).Answer(); !errors.As(err, &refused) || refused.Status != relay.StatusTimeout {
		t.Errorf("nobody accepts: %v", err)
	}
	e := newEdge(t, "unix://"+name, Limits{})
	_, m := e.dial()
	near := connect(t, m)
	until(t, "the connection waits", func() bool { return e.service.Use().Streams == 1 })
	for range 2 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := near.Answer(); err != nil {
		t.Errorf("accepted after a while: %v", err)
	}
}

// localhost is both loopbacks.
func TestTCPLocalhost(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", loopback)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		_, m := newEdge(t, "tcp://localhost:"+port, Limits{}).dial()
		if err := connect(t, m).Answer(); err != nil {
			t.Errorf("%s: %v", loopback, err)
		}
	}
}
