// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func withTimeout(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), patience)
}

// TestSession is the whole way: handshake, datagrams of every size both ways,
// what Info says, and the client's CLOSE.
func TestSession(t *testing.T) {
	for _, local := range []string{"127.0.0.1", "::1"} {
		t.Run(local, func(t *testing.T) {
			identity := handshake.NewPrivateKey()
			srv := listen(t, func(c *Config) {
				c.Authorize = func(k handshake.PublicKey, service uint16) Access {
					return Access{Name: "alice", Allowed: k == identity.Public() && service == 7}
				}
			})
			c := dial(t, srv, local, func(c *handshake.ClientConfig) { c.Static = identity })
			s := accept(t, srv)
			for _, size := range []int{0, 1, 1000, 1212, 1213, 2500, 3999, 4000} {
				want := strings.Repeat("x", size)
				c.sendDatagram(want)
				if got := receive(t, s); got != want {
					t.Fatalf("to the server: %d bytes became %d", size, len(got))
				}
				if err := s.SendDatagram([]byte(want)); err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				if got := c.receive(); got != want {
					t.Fatalf("to the client: %d bytes became %d", size, len(got))
				}
			}
			if err := s.SendDatagram(make([]byte, 4001)); !errors.Is(err, session.ErrTooLarge) {
				t.Errorf("4001 bytes to a client that takes 4000: %v", err)
			}
			if n := srv.Stats().DatagramsTooLarge; n != 1 {
				t.Errorf("%d datagrams were counted as too large", n)
			}

			at := netip.AddrPortFrom(netip.MustParseAddr(local), c.sockets[0].conn.LocalAddr().Port())
			info := s.Info()
			if s.RemoteAddr() != at || info.Path.Remote != at || s.Service() != 7 || s.PeerKey() != identity.Public() ||
				info.PeerName != "alice" || info.ID != s.ID() || info.Received.Datagrams != 8 || info.Sent.Datagrams != 8 ||
				info.SRTT == 0 || time.Since(info.Opened) > time.Minute || time.Since(info.LastReceived) > time.Minute {
				t.Errorf("remote %v (is %v), info %+v", s.RemoteAddr(), at, info)
			}
			if s.LocalAddr().Addr() != c.sockets[0].to.Addr() {
				t.Errorf("local %v, the client speaks to %v", s.LocalAddr(), c.sockets[0].to)
			}
			slot, err := srv.table.Get(info.LocalID)
			if err != nil || slot.Addr() != at {
				t.Errorf("slot %+v, %v: the validated path is %v", slot, err, at)
			}

			c.do(func(now session.Time, out *session.Output) error {
				c.state.Close(now, wire.CloseDone, "bye", out)
				return nil
			})
			ctx, cancel := withTimeout(t)
			defer cancel()
			_, err = s.ReceiveDatagram(ctx, make([]byte, 10))
			var ce *ClosedError
			if !errors.As(err, &ce) || !ce.Remote || ce.Code != wire.CloseDone || ce.Reason != "bye" || !errors.Is(err, ErrClosed) {
				t.Errorf("after the client's CLOSE: %v", err)
			}
			if err := s.SendDatagram([]byte("x")); !errors.As(err, &ce) {
				t.Errorf("sending then: %v", err)
			}
			st := srv.Stats()
			if st.Opened != 1 || st.Closed != 1 || st.Sessions != 0 || st.HalfOpen != 0 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestCloseByServer(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	if err := s.Close(wire.CloseServiceGone, "no more"); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if e := c.closedWith(); e.Code != wire.CloseServiceGone || e.Text != "no more" || !e.Remote {
		t.Errorf("the client learned %+v", e)
	}
	if err := s.Close(wire.CloseDone, ""); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

// TestAcceptQueue has nobody call Accept: clients beyond the queue are told.
func TestAcceptQueue(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Limits.AcceptQueue = 1 })
	dial(t, srv, "127.0.0.1", nil)
	eventually(t, "the first waits", func() bool { return srv.Stats().Opened == 1 })
	if e := dial(t, srv, "127.0.0.1", nil).closedWith(); e.Code != wire.CloseLimit || e.Text == "" {
		t.Errorf("the second client learned %+v", e)
	}
	if st := srv.Stats(); st.AcceptQueueFull != 1 || st.Sessions != 1 || st.Closed != 0 {
		t.Errorf("stats %+v", st)
	}
	accept(t, srv)
}

func TestReceiveContext(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.ReceiveDatagram(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("receive: %v", err)
	}
	if _, err := srv.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("accept: %v", err)
	}
	c.sendDatagram("too long for it")
	p := make([]byte, 3)
	if n, err := s.ReceiveDatagram(t.Context(), p); n != 3 || !errors.Is(err, io.ErrShortBuffer) || string(p) != "too" {
		t.Errorf("a short buffer: %d, %v, %q", n, err, p)
	}
}

// TestSlowReader fills a session's inbox: datagrams are dropped and counted, and
// the session lives.
func TestSlowReader(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Limits.ReceiveBuffer = 4096 })
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	for range 20 {
		c.sendDatagram(strings.Repeat("x", 1000))
	}
	eventually(t, "datagrams are dropped", func() bool { return srv.Stats().DatagramsDropped == 16 })
	for range 4 {
		receive(t, s)
	}
	c.sendDatagram("after")
	if got := receive(t, s); got != "after" {
		t.Errorf("then: %q", got)
	}
}

// TestCloseTellsClients closes the server under live sessions and looks for
// what it leaves behind.
func TestCloseTellsClients(t *testing.T) {
	before := runtime.NumGoroutine()
	srv := listen(t, nil)
	var clients []*client
	var s *Session
	for range 5 {
		clients = append(clients, dial(t, srv, "127.0.0.1", nil))
		s = accept(t, srv)
	}
	read := make(chan error)
	go func() {
		_, err := s.ReceiveDatagram(context.Background(), nil)
		read <- err
	}()
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		if e := c.closedWith(); e.Code != wire.CloseShuttingDown {
			t.Errorf("a client learned %+v", e)
		}
		c.mu.Lock()
		c.closed = true
		for _, s := range c.sockets {
			s.conn.Close()
		}
		c.mu.Unlock()
	}
	if err := <-read; !errors.Is(err, ErrClosed) {
		t.Errorf("the session's reader got %v", err)
	}
	if _, err := srv.Accept(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

// TestChurn opens and closes sessions; nothing of them may stay.
func TestChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("waits the seconds for which the ids of a closed session stay")
	}
	t.Parallel()
	srv := listen(t, func(c *Config) { c.Limits.PrefixRate, c.Limits.PrefixBurst = 10000, 1000 })
	for range 100 {
		c := dial(t, srv, "127.0.0.1", nil)
		s := accept(t, srv)
		s.Close(wire.CloseDone, "")
		c.closedWith()
	}
	eventually(t, "every slot is free and every session forgotten", func() bool {
		return srv.table.Len() == 0 && srv.directory.len() == 0
	})
	srv.caps.mu.Lock()
	defer srv.caps.mu.Unlock()
	if len(srv.caps.keys)+len(srv.caps.prefixes) != 0 || srv.Stats().HalfOpen != 0 {
		t.Errorf("left: %d keys, %d networks, %d half-open", len(srv.caps.keys), len(srv.caps.prefixes), srv.Stats().HalfOpen)
	}
}

// TestManySessions has many clients speak at once, each getting its own datagrams.
func TestManySessions(t *testing.T) {
	srv := listen(t, func(c *Config) {
		c.Cookie = CookieNever
		c.Limits = Limits{PrefixRate: 10000, PrefixBurst: 1000, PrefixHalfOpen: 1000}
	})
	const n = 50
	var wg sync.WaitGroup
	go func() {
		for {
			s, err := srv.Accept(t.Context())
			if err != nil {
				return
			}
			go func() {
				p := make([]byte, 2000)
				for {
					n, err := s.ReceiveDatagram(context.Background(), p)
					if err != nil {
						return
					}
					s.SendDatagram(p[:n])
				}
			}()
		}
	}()
	for i := range n {
		wg.Go(func() {
			c := dial(t, srv, "127.0.0.1", nil)
			for j := range 10 {
				want := fmt.Sprintf("client %d datagram %d", i, j)
				c.sendDatagram(want)
				if got := c.receive(); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
	wg.Wait()
	listed := 0
	srv.Sessions(func(i SessionInfo) bool { listed++; return true })
	if st := srv.Stats(); listed != n || st.Sessions != n || st.Packets[AuthFailed] != 0 {
		t.Errorf("%d listed, stats %+v", listed, st)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"private key":   func(c *Config) { c.Static = handshake.PrivateKey{} },
		"cookie policy": func(c *Config) { c.Cookie = 9 },
		"workers":       func(c *Config) { c.Workers = -1 },
		"idle timeout":  func(c *Config) { c.Params.IdleTimeout = -1 },
		"table_slots":   func(c *Config) { c.TableSlots = 100 },
		"PrefixRate":    func(c *Config) { c.Limits.PrefixRate = -5 },
	} {
		cfg := Config{Static: handshake.NewPrivateKey(), Listen: netip.MustParseAddrPort("127.0.0.1:0")}
		change(&cfg)
		srv, err := Listen(cfg)
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", name, srv, err)
		}
	}
	srv := listen(t, nil)
	if _, err := Listen(Config{Static: handshake.NewPrivateKey(), Listen: srv.Addr()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("two servers on one port: %v", err)
	}
}

func TestCookiePolicyText(t *testing.T) {
	for _, p := range []CookiePolicy{CookieAuto, CookieAlways, CookieNever} {
		text, _ := p.MarshalText()
		var q CookiePolicy
		if err := q.UnmarshalText(text); err != nil || q != p {
			t.Errorf("%v became %v, %v", p, q, err)
		}
	}
	var p CookiePolicy
	if err := p.UnmarshalText([]byte("sometimes")); err == nil || !strings.Contains(err.Error(), "auto, always or never") {
		t.Errorf("an unknown policy: %v", err)
	}
}

// TestReasons checks that every reason has a name and a place, and that none of
// a session's verdicts on packets is forgotten.
func TestReasons(t *testing.T) {
	names := map[string]bool{}
	for r := Reason(1); r < numReasons; r++ {
		name := r.String()
		if name == "" || strings.Contains(name, "-") || names[name] {
			t.Errorf("reason %d is called %q", r, name)
		}
		names[name] = true
	}
	for r := session.Delivered; r <= session.AfterClose; r++ {
		if ofSession[r] == 0 {
			t.Errorf("session reason %v is not counted", r)
		}
	}
	for r, v := range map[Reason]Verdict{Delivered: VerdictDeliver, Probed: VerdictDeliver, RespAccepted: VerdictAnswer,
		VersionsSent: VerdictAnswer, Malformed: VerdictDrop, UnknownProtocol: VerdictDrop} {
		if r.Verdict() != v {
			t.Errorf("%v: %v", r, r.Verdict())
		}
	}
}

// TestLog checks the names by which operators find things.
func TestLog(t *testing.T) {
	var mu sync.Mutex
	var buf bytes.Buffer
	srv := listen(t, func(c *Config) {
		c.Log = slog.New(slog.NewJSONHandler(lockedWriter{&mu, &buf}, nil))
		c.HasService = func(service uint16) bool { return service == 7 }
	})
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	init, _ := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Service = 8 })
	exchange(t, newSocket(t, "127.0.0.1", srv), init)
	c.sendDatagram("x")
	receive(t, s)
	c.move(c.addSocket("127.0.0.1", srv))
	eventually(t, "the move is committed", func() bool { return srv.Stats().RoamsCommitted == 1 })
	s.Close(wire.CloseDone, "")
	c.closedWith()
	srv.Close() // which writes what is left
	mu.Lock()
	defer mu.Unlock()
	for _, value := range []any{s.ID(), s.PeerKey(), c.sockets[1].conn.LocalAddr()} {
		if !strings.Contains(buf.String(), fmt.Sprintf("%q", fmt.Sprint(value))) {
			t.Errorf("%v is not in the log, or not as text", value)
		}
	}
	for _, name := range []string{"session_opened", "session_refused", "roam_started", "roam_committed", "session_closed"} {
		if n := strings.Count(buf.String(), `"msg":"`+name+`"`); n != 1 {
			t.Errorf("%s was logged %d times", name, n)
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
