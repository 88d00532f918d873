// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestLargeDatagramsTravelInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		s := r.dial(t)
		max := s.MaxDatagram()
		if max != 4000 {
			t.Errorf("the server takes 4000 bytes, MaxDatagram is %d", max)
		}
		d := bytes.Repeat([]byte("0123456789"), 400)
		p := make([]byte, 5000)
		for try := 0; ; try++ {
			if err := s.SendDatagram(d); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			n, err := s.ReceiveDatagram(ctx, p)
			cancel()
			if err == nil {
				if !bytes.Equal(p[:n], d) {
					t.Errorf("%d bytes came back of %d", n, len(d))
				}
				break
			}
			if try == 5 {
				t.Fatal(err)
			}
		}
		if err := s.SendDatagram(make([]byte, max+1)); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "4001") {
			t.Errorf("one byte too many: %v", err)
		}
	})
}

func TestReceiveDatagramEnds(t *testing.T) {
	r := newRig(t, "127.0.0.1:0")
	s := r.dial(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.ReceiveDatagram(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context: %v", err)
	}
	result := make(chan error)
	go func() {
		_, err := s.ReceiveDatagram(context.Background(), nil)
		result <- err
	}()
	time.Sleep(10 * time.Millisecond)
	if err := s.Close(wire.CloseDone, "enough"); err != nil {
		t.Errorf("close: %v", err)
	}
	var closed *ClosedError
	if err := <-result; !errors.As(err, &closed) || !errors.Is(err, net.ErrClosed) || closed.Remote || closed.Reason != "enough" {
		t.Errorf("close: %v", err)
	}
	if err := s.SendDatagram([]byte("x")); !errors.As(err, &closed) {
		t.Errorf("send after close: %v", err)
	}
	if err := s.Close(wire.CloseDone, "again"); !errors.As(err, &closed) || closed.Reason != "enough" {
		t.Errorf("close after close: %v", err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done is open")
	}
}

func TestCloseTellsTheServerAndDoesNotLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		s := r.dial(t)
		echo(t, s, "x")
		start := time.Now()
		if err := s.Close(wire.CloseShuttingDown, "off"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > closeWait/2 {
			t.Errorf("Close took %v although the server answered", d)
		}
		r.with(func() {
			c := r.sessions[0].closed
			if c == nil || !c.Remote || c.Code != wire.CloseShuttingDown || c.Text != "off" {
				t.Errorf("the server heard %+v", c)
			}
		})
	})
}

// Close right after Dial: nothing has measured the path yet.
func TestCloseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		s := r.dial(t)
		start := time.Now()
		if err := s.Close(wire.CloseDone, ""); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > closeWait/2 {
			t.Errorf("Close took %v although the server answered", d)
		}
		r.with(func() {
			if r.sessions[0].closed == nil {
				t.Error("the server heard nothing of it")
			}
		})
	})
}

// The first CLOSE is lost: it is sent again before Close gives up.
func TestCloseIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		s := r.dial(t)
		echo(t, s, "x")
		lost := false
		r.with(func() {
			r.loss = func(toServer bool, _ []byte) bool {
				if !toServer || lost {
					return false
				}
				lost = true
				return true
			}
		})
		s.Close(wire.CloseDone, "")
		r.with(func() {
			if !lost || r.sessions[0].closed == nil {
				t.Errorf("lost %v, the server heard %v", lost, r.sessions[0].closed)
			}
		})
	})
}

// Who reads from a session learns of its end from within Close, and closes it too:
// that does not cut the first call short, whose CLOSE may not have left yet.
func TestCloseBeside(t *testing.T) {
	for range 20 {
		r := newRig(t, "127.0.0.1:0")
		s := r.dial(t)
		echo(t, s, "x")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.ReceiveDatagram(t.Context(), make([]byte, 1))
			s.Close(wire.CloseDone, "")
		}()
		lost := false
		r.with(func() {
			r.loss = func(toServer bool, _ []byte) bool {
				first := toServer && !lost
				lost = lost || toServer
				return first
			}
		})
		s.Close(wire.CloseDone, "")
		<-ended
		eventually(t, "the first CLOSE is lost, and the server hears the next", func() (ok bool) {
			r.with(func() { ok = lost && r.sessions[0].closed != nil })
			return ok
		})
	}
}

func TestCloseOfADeadServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		s := r.dial(t)
		echo(t, s, "x")
		r.with(func() { r.mute = true })
		start := time.Now()
		s.Close(wire.CloseDone, "")
		// CLOSE is repeated for as long as that may help, and no longer.
		if d := time.Since(start); d < 50*time.Millisecond || d > maxCloseWait+time.Second {
			t.Errorf("Close took %v", d)
		}
	})
}

func TestKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		lively := r.dial(t, func(c *Config) { c.Keepalive = 20 * time.Millisecond })
		quiet := r.dial(t, func(c *Config) { c.Keepalive = -1 })
		echo(t, lively, "x")
		echo(t, quiet, "x")
		time.Sleep(100 * time.Millisecond) // the first exchanges come to rest
		l, q := lively.Info().Received.Packets, quiet.Info().Received.Packets
		eventually(t, "five answers to keepalives", func() bool { return lively.Info().Received.Packets >= l+5 })
		if n := quiet.Info().Received.Packets; n != q {
			t.Errorf("without keepalives %d packets came", n-q)
		}
	})
}

func TestServerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		var ev events
		before := runtime.NumGoroutine()
		s := r.dial(t, func(c *Config) { c.OnEvent = ev.add })
		echo(t, s, "x")
		r.with(func() { r.echoTimes = 2 })
		if err := s.SendDatagram([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "both copies are there", func() bool { return s.Info().Received.Datagrams >= 3 })
		r.closeAll(wire.CloseServiceGone, "backend died\x1b[2J")
		<-s.Done()
		var closed *ClosedError
		if !errors.As(s.Err(), &closed) || !closed.Remote || closed.Code != wire.CloseServiceGone ||
			!strings.Contains(closed.Error(), "backend died") || strings.Contains(closed.Error(), "\x1b") {
			t.Errorf("%q", s.Err())
		}
		p := make([]byte, 100)
		for range 2 { // what came before can still be read
			if n, err := s.ReceiveDatagram(t.Context(), p); err != nil || string(p[:n]) != "last words" {
				t.Errorf("%q %v", p[:n], err)
			}
		}
		if _, err := s.ReceiveDatagram(t.Context(), p); !errors.As(err, &closed) {
			t.Errorf("after the last: %v", err)
		}
		eventually(t, "the event", func() bool { return len(ev.find(EventClosed)) == 1 })
		// Nobody calls Close, and yet all goes once the ids have had their silence.
		eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before })
	})
}

func TestOnEventMayClose(t *testing.T) {
	r := newRig(t, "127.0.0.1:0")
	dialled, closed := make(chan *Session, 1), make(chan error)
	s := r.dial(t, func(c *Config) {
		c.OnEvent = func(e Event) {
			if e.Kind == EventConfirmed {
				s := <-dialled
				closed <- s.Close(wire.CloseDone, "from OnEvent")
			}
		}
	})
	dialled <- s
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Close from OnEvent does not return")
	}
}

func TestQueueOverflowIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		s := r.dial(t, func(c *Config) { c.ReceiveBuffer = 4096 })
		echo(t, s, "x")
		r.with(func() { r.echoTimes = 10 })
		if err := s.SendDatagram(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "overflow", func() bool { return s.Info().Overflow >= 5 })
	})
}

// Nothing that is not from the server, and no garbage, changes the session.
func TestGarbageIsIgnored(t *testing.T) {
	r := newRig(t, "127.0.0.1:0")
	s := r.dial(t)
	echo(t, s, "x")
	attacker, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.LocalAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer attacker.Close()
	id := s.Info().LocalID
	forged := make([]byte, 100)
	wire.PutDataHeader(forged, 5, id)
	before := s.Info()
	for _, pkt := range [][]byte{{}, {0}, {0x0c}, forged, bytes.Repeat([]byte{0xff}, 2000), wire.AppendRetry(nil, wire.ID{}, wire.Cookie{})} {
		if _, err := attacker.Write(pkt); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the forged packet was counted", func() bool {
		return s.Info().Counts[session.AuthFailed] == before.Counts[session.AuthFailed]+1
	})
	echo(t, s, "y")
	if after := s.Info(); after.Path != before.Path || after.State != session.StateOpen {
		t.Errorf("path %v was %v, %v", after.Path, before.Path, after.State)
	}
}

// Many goroutines at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	needsLoopbackNet(t)
	r := newRig(t, "127.0.0.1:0")
	network := newNetwork("127.0.0.1", "")
	s := r.dial(t, func(c *Config) { c.Network = network; c.OnEvent = func(Event) {} })
	echo(t, s, "x")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := s.SendDatagram([]byte("load")); err != nil {
					t.Error(err)
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
		wg.Go(func() {
			p := make([]byte, 10)
			for {
				if _, err := s.ReceiveDatagram(ctx, p); err != nil {
					return
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			s.Info()
			s.LocalAddr()
			s.MaxDatagram()
			s.ObservedAddr()
			time.Sleep(time.Millisecond)
		}
	})
	for i := 0; ctx.Err() == nil; i++ {
		network.set([]string{"127.0.0.1", "127.0.0.2", ""}[i%3], "")
		time.Sleep(20 * time.Millisecond)
	}
	wg.Wait()
	network.set("127.0.0.1", "")
	echo(t, s, "still here")
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	r := newRig(t, "127.0.0.1:0", func(r *rig) { r.echoTimes = 0 })
	s := r.dial(t)
	eventually(t, "open", func() bool { return s.Info().State == session.StateOpen })
	d := make([]byte, 1000)
	send := func() {
		if err := s.SendDatagram(d); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		send()
	}
	time.Sleep(300 * time.Millisecond) // the path MTU search comes to rest
	if n := testing.AllocsPerRun(500, send); n > 0.5 {
		t.Errorf("%v allocations for each datagram sent (the rig's included)", n)
	}
}

func BenchmarkSend(b *testing.B) {
	r := newRig(b, "127.0.0.1:0", func(r *rig) { r.echoTimes = 0 })
	s := r.dial(b)
	d := make([]byte, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.SendDatagram(d); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSendDatagrams(t *testing.T) {
	r := newRig(t, "127.0.0.1:0")
	s := r.dial(t)
	const n = sendBatch + 20
	var ds [][]byte
	for i := range n {
		ds = append(ds, fmt.Appendf(nil, "number %d", i))
	}
	if sent, err := s.SendDatagrams(ds); sent != n || err != nil {
		t.Fatalf("%d sent, %v", sent, err)
	}
	p := make([]byte, 100)
	for i := range n {
		if got, err := s.ReceiveDatagram(t.Context(), p); err != nil || string(p[:got]) != string(ds[i]) {
			t.Fatalf("%q, %v; want %q", p[:got], err, ds[i])
		}
	}
	ds[3] = make([]byte, 1<<16)
	if sent, err := s.SendDatagrams(ds); sent != 3 || !errors.Is(err, ErrTooLarge) {
		t.Errorf("with one too large: %d sent, %v", sent, err)
	}
	s.Close(wire.CloseDone, "")
	var closed *ClosedError
	if sent, err := s.SendDatagrams(ds); sent != 0 || !errors.As(err, &closed) {
		t.Errorf("closed: %d sent, %v", sent, err)
	}
}
