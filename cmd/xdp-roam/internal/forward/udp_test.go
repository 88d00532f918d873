// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// echo is a session whose far end says everything back, with its number before it.
type echo struct {
	number int
	back   chan []byte
	lends  inbox.Inbox
	once   sync.Once
	done   chan struct{}
	reason string
}

func newEcho(number int) *echo {
	s := &echo{number: number, back: make(chan []byte, 256), done: make(chan struct{})}
	s.lends.Limit(1 << 20)
	return s
}

func (s *echo) ReceiveDatagrams(ctx context.Context, l *inbox.Loan) ([][]byte, error) {
	select {
	case datagram := <-s.back:
		s.lends.Push(datagram)
		return s.lends.Lend(ctx, l)
	case <-s.done:
		return nil, errors.New("closed: " + s.reason)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *echo) SendDatagram(p []byte) error {
	select {
	case <-s.done:
		return net.ErrClosed
	case s.back <- fmt.Appendf(nil, "%d:%s", s.number, p):
		return nil
	}
}

func (s *echo) Close(_ wire.CloseCode, reason string) error {
	s.once.Do(func() {
		s.reason = reason
		close(s.done)
	})
	return nil
}

func (s *echo) Done() <-chan struct{} { return s.done }

// bench is a running UDP with sessions that echo.
type bench struct {
	u    *UDP
	stop func() error

	mu       sync.Mutex
	sessions []*echo
	lines    []string
}

func start(t *testing.T, idle time.Duration, spare *echo, dial func(int) error) *bench {
	t.Helper()
	local, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{}
	b.u = &UDP{Local: local, Idle: idle,
		Dial: func(context.Context) (Session, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if dial != nil {
				if err := dial(len(b.sessions)); err != nil {
					return nil, err
				}
			}
			b.sessions = append(b.sessions, newEcho(len(b.sessions)+1))
			return b.sessions[len(b.sessions)-1], nil
		},
		Report: func(format string, args ...any) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.lines = append(b.lines, fmt.Sprintf(format, args...))
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		if spare == nil {
			ended <- b.u.Run(ctx, nil)
			return
		}
		ended <- b.u.Run(ctx, spare)
	}()
	b.stop = sync.OnceValue(func() error {
		cancel()
		defer local.Close()
		return <-ended
	})
	t.Cleanup(func() { b.stop() })
	return b
}

// program is a local program that speaks to the bench.
func (b *bench) program(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, b.u.Local.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func exchange(t *testing.T, conn *net.UDPConn, send, want string) {
	t.Helper()
	if _, err := conn.Write([]byte(send)); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	buffer := make([]byte, 100)
	n, err := conn.Read(buffer)
	if err != nil || string(buffer[:n]) != want {
		t.Fatalf("sent %q, got %q %v, want %q", send, buffer[:n], err, want)
	}
}

func (b *bench) session(i int) *echo {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[i]
}

func (b *bench) said(part string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(strings.Join(b.lines, "\n"), part)
}

// patience is what a busy machine may take for what an idle one does at once.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatal("never happened: " + what)
}

func TestOneSessionForEachProgram(t *testing.T) {
	b := start(t, time.Hour, nil, nil)
	first, second := b.program(t), b.program(t)
	exchange(t, first, "a", "1:a")
	exchange(t, second, "b", "2:b")
	exchange(t, first, "c", "1:c")
	exchange(t, second, "", "2:")
}

func TestSpareSessionServesTheFirstProgram(t *testing.T) {
	b := start(t, time.Hour, newEcho(100), nil)
	exchange(t, b.program(t), "a", "100:a")
	exchange(t, b.program(t), "b", "1:b")
}

func TestSpareSessionThatEndedIsNotUsed(t *testing.T) {
	spare := newEcho(100)
	spare.Close(wire.CloseIdle, "")
	b := start(t, time.Hour, spare, nil)
	exchange(t, b.program(t), "a", "1:a")
}

func TestEndedSessionIsDialledAgain(t *testing.T) {
	b := start(t, time.Hour, nil, nil)
	conn := b.program(t)
	exchange(t, conn, "a", "1:a")
	b.session(0).Close(wire.CloseServiceGone, "backend refused")
	eventually(t, "the report of the end", func() bool { return b.said("session ended: closed: backend refused") })
	eventually(t, "forgetting the flow", func() bool { return len(b.u.snapshot()) == 0 })
	exchange(t, conn, "b", "2:b")
}

func TestIdleSessionIsClosed(t *testing.T) {
	b := start(t, 2*time.Second, nil, nil) // a busy machine has answered before
	conn := b.program(t)
	exchange(t, conn, "a", "1:a")
	eventually(t, "the end by idleness", func() bool { return !alive(b.session(0)) && len(b.u.snapshot()) == 0 })
	exchange(t, conn, "b", "2:b")
}

func TestDatagramsWaitForTheSession(t *testing.T) {
	release := make(chan struct{})
	b := start(t, time.Hour, nil, func(int) error { <-release; return nil })
	conn := b.program(t)
	for i := range maxQueued + 10 {
		if _, err := fmt.Fprintf(conn, "%d", i); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all of them read", func() bool {
		flows := b.u.snapshot()
		if len(flows) != 1 {
			return false
		}
		flows[0].mu.Lock()
		defer flows[0].mu.Unlock()
		return flows[0].lost == 10
	})
	close(release)
	conn.SetReadDeadline(time.Now().Add(patience))
	buffer := make([]byte, 100)
	for i := range maxQueued {
		n, err := conn.Read(buffer)
		if want := fmt.Sprintf("1:%d", i); err != nil || string(buffer[:n]) != want {
			t.Fatalf("got %q %v, want %q", buffer[:n], err, want)
		}
	}
	eventually(t, "the report of the loss", func() bool { return b.said("10 datagrams lost while the session was opened") })
}

func TestFailedDialIsReportedAndNotRepeatedAtOnce(t *testing.T) {
	dials, began := 0, time.Now()
	b := start(t, time.Hour, nil, func(int) error { dials++; return errors.New("no such service") })
	conn := b.program(t)
	for range 20 {
		conn.Write([]byte("x"))
		time.Sleep(time.Millisecond)
	}
	eventually(t, "the report", func() bool { return b.said("no such service") })
	b.mu.Lock()
	defer b.mu.Unlock()
	if most := 1 + int(time.Since(began)/retryAfter); dials > most {
		t.Errorf("%d handshakes for one burst, want at most %d", dials, most)
	}
}

// A server that ends each session as soon as it has begun is not flooded with handshakes.
func TestEndedSessionIsNotDialledAgainAtOnce(t *testing.T) {
	begin := time.Now()
	b := start(t, time.Hour, nil, nil)
	conn := b.program(t)
	dialled := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.sessions)
	}
	for dialled() < 3 {
		conn.Write([]byte("x"))
		time.Sleep(time.Millisecond)
		for i := range dialled() {
			b.session(i).Close(wire.CloseServiceGone, "nothing listens")
		}
		if n, most := dialled(), 1+int(time.Since(begin)/retryAfter); n > most {
			t.Fatalf("%d handshakes within %v, want at most %d", n, time.Since(begin), most)
		}
		if time.Since(begin) > patience {
			t.Fatal("it has given up")
		}
	}
}

func TestStopClosesEverySession(t *testing.T) {
	spare := newEcho(100)
	b := start(t, time.Hour, spare, nil)
	exchange(t, b.program(t), "a", "100:a")
	exchange(t, b.program(t), "b", "1:b")
	if err := b.stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	if alive(spare) || alive(b.session(0)) {
		t.Error("sessions outlived Run")
	}
}

func TestStopClosesAnUnusedSpare(t *testing.T) {
	spare := newEcho(100)
	b := start(t, time.Hour, spare, nil)
	b.stop()
	if alive(spare) {
		t.Error("the spare session outlived Run")
	}
}

// Programs that take a port for each question do not use up the sessions that a
// key may have; those that are busy keep theirs.
func TestUDPReplacesIdleFlows(t *testing.T) {
	b := start(t, time.Hour, nil, nil)
	var programs []*net.UDPConn
	ask := func() *net.UDPConn {
		p := b.program(t)
		programs = append(programs, p)
		exchange(t, p, "question", fmt.Sprintf("%d:question", len(programs)))
		return p
	}
	for range crowd + 3 { // nobody is idle, however slow the machine
		for _, f := range b.u.snapshot() {
			f.active.Add(int64(time.Hour))
		}
		ask()
	}
	for i := range crowd + 3 {
		if !alive(b.session(i)) {
			t.Fatalf("session %d of a busy program has ended", i)
		}
	}
	for i, f := range b.u.snapshot() {
		f.touch()
		f.active.Add(-int64(2*pause) - int64(i))
	}
	busy := b.u.snapshot()[0]
	busy.active.Add(int64(time.Hour))
	for range crowd {
		ask()
	}
	ended := func() (n int) {
		for i := range crowd + 3 {
			if !alive(b.session(i)) {
				n++
			}
		}
		return n
	}
	eventually(t, fmt.Sprintf("%d idle sessions have ended", crowd), func() bool { return ended() == crowd })
	if busy.ending.Load() {
		t.Error("a busy program has lost its session")
	}
}
