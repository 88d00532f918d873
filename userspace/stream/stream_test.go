// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test in its own time. What is left of it is a deadlock there.
func bubble(t *testing.T, delay time.Duration, f func(t *testing.T, p *pipe)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if _, err := certificate(); err != nil { // its once must not be the bubble's
			t.Fatal(err)
		}
		f(t, newPipe(delay))
	})
}

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(3, uint64(n)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Bytes arrive whole and in order, whatever the wire does.
func TestStreamOverBadWires(t *testing.T) {
	for name, bad := range map[string]func(*pipe){
		"good":      func(*pipe) {},
		"lossy":     func(p *pipe) { p.loss = 0.05 },
		"reordered": func(p *pipe) { p.jitter = 15 * time.Millisecond },
		"both":      func(p *pipe) { p.loss, p.jitter = 0.1, 10*time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 10*time.Millisecond, func(t *testing.T, p *pipe) {
				p.set(bad)
				client, server := p.connect(t, Config{})
				near, far := streams(t, client, server)
				up, down := noise(300_000), noise(200_001)
				var wg sync.WaitGroup
				for s, data := range map[*Stream][]byte{near: up, far: down} {
					wg.Go(func() {
						if _, err := s.Write(data); err != nil {
							t.Error(err)
						}
						if err := s.CloseWrite(); err != nil {
							t.Error(err)
						}
					})
				}
				for s, want := range map[*Stream][]byte{far: up, near: down} {
					wg.Go(func() {
						if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
							t.Errorf("%d bytes of %d came, %v", len(got), len(want), err)
						}
					})
				}
				wg.Wait()
				p.set(func(p *pipe) {
					if p.oversize != 0 {
						t.Errorf("%d datagrams were larger than %d bytes", p.oversize, packetSize)
					}
				})
			})
		})
	}
}

func TestHundredStreams(t *testing.T) {
	bubble(t, 5*time.Millisecond, func(t *testing.T, p *pipe) {
		p.set(func(p *pipe) { p.loss = 0.02 })
		client, server := p.connect(t, Config{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 100 {
				s, err := server.Accept(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				wg.Go(func() { // echo
					if _, err := io.Copy(writeOnly{s}, readOnly{s}); err != nil {
						t.Error(err)
					}
					s.CloseWrite()
				})
			}
		})
		for i := range 100 {
			wg.Go(func() {
				s, err := client.Open(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				data := noise(5000 + i)
				wg.Go(func() {
					s.Write(data)
					s.CloseWrite()
				})
				if got, err := io.ReadAll(s); err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
					t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
				}
			})
		}
		wg.Wait()
	})
}

type (
	readOnly  struct{ io.Reader }
	writeOnly struct{ io.Writer }
)

// A half-close leaves the other direction as it is.
func TestHalfClose(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		near, far := streams(t, client, server)
		near.CloseWrite()
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the far end reads %v, want EOF", err)
		}
		if _, err := near.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after CloseWrite: %v", err)
		}
		far.Write([]byte("still here"))
		far.Close()
		if got, err := io.ReadAll(near); string(got) != "still here" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// A reset reaches both directions of the other end, with its code.
func TestReset(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		near, far := streams(t, client, server)
		near.Reset(7)
		var reset *ResetError
		if _, err := far.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.Code != 7 || !reset.Remote {
			t.Errorf("read: %v", err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.Code != 7 || reset.Remote {
			t.Errorf("read here: %v", err)
		}
		synctest.Wait()
		if _, err := far.Write(noise(1)); !errors.As(err, &reset) || reset.Code != 7 || !reset.Remote {
			t.Errorf("write: %v", err)
		}
		// One direction alone.
		near, far = streams(t, client, server)
		near.CloseRead(9)
		time.Sleep(10 * time.Millisecond)
		if _, err := far.Write(noise(1)); !errors.As(err, &reset) || reset.Code != 9 {
			t.Errorf("write to who does not read: %v", err)
		}
		near.Write([]byte("on"))
		near.CloseWrite()
		if got, err := io.ReadAll(far); string(got) != "on" || err != nil {
			t.Errorf("the other direction: %q, %v", got, err)
		}
	})
}

// A reader that does not read stops the writer, within the first window.
func TestBackPressure(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		near, far := streams(t, client, server)
		near.SetWriteDeadline(time.Now().Add(10 * time.Second))
		n, err := near.Write(make([]byte, 10<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("writing 10 MB that nobody reads: %d, %v", n, err)
		}
		if n > int(serverFirst.stream)+64<<10 {
			t.Errorf("%d bytes were taken; the window is %d", n, serverFirst.stream)
		}
		// It does not hold up the others.
		near2, far2 := streams(t, client, server)
		near2.Write([]byte("hello"))
		near2.CloseWrite()
		if got, err := io.ReadAll(far2); string(got) != "hello" || err != nil {
			t.Errorf("beside a stalled stream: %q, %v", got, err)
		}
		// Close gives up what could not be written.
		done := make(chan struct{})
		near.SetWriteDeadline(time.Time{})
		go func() {
			defer close(done)
			near.Write(make([]byte, 10<<20))
		}()
		synctest.Wait()
		near.Close()
		<-done
		if _, err := io.Copy(io.Discard, far); err == nil {
			t.Error("a part passed for the whole")
		}
	})
}

// A session that is silent for a day keeps its streams.
func TestSleep(t *testing.T) {
	bubble(t, 20*time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		near, far := streams(t, client, server)
		time.Sleep(time.Second)
		sent := func() (n int) {
			p.set(func(p *pipe) { n = p.sent })
			return n
		}
		before := sent()
		time.Sleep(23 * time.Hour)
		if n := sent() - before; n != 0 {
			t.Errorf("%d datagrams while nothing is to be said", n)
		}
		// The wire is dead with something under way, all night.
		p.set(func(p *pipe) { p.cut = true })
		near.Write([]byte("good night"))
		time.Sleep(12 * time.Hour)
		if n := sent() - before; n > 12*60*4 {
			t.Errorf("%d datagrams into a dead wire in 12 hours", n)
		}
		p.mend()
		start := time.Now()
		if _, err := io.ReadFull(far, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("it took %v after the wire was mended", d)
		}
	})
}

// After a cut, both directions go on within a few round trips, and not only when
// QUIC's probe timer fires, which has doubled meanwhile.
func TestRecovery(t *testing.T) {
	const rtt = 40 * time.Millisecond
	for name, direction := range map[string]func(near, far *Stream) (from, to *Stream){
		"up":   func(near, far *Stream) (*Stream, *Stream) { return near, far },
		"down": func(near, far *Stream) (*Stream, *Stream) { return far, near },
	} {
		for _, cut := range []time.Duration{300 * time.Millisecond, 3 * time.Second, 70 * time.Second} {
			t.Run(name+" "+cut.String(), func(t *testing.T) {
				bubble(t, rtt/2, func(t *testing.T, p *pipe) {
					client, server := p.connect(t, Config{})
					from, to := direction(streams(t, client, server))
					var got counter
					var wg sync.WaitGroup
					wg.Go(func() { // a steady stream of 2 MB/s, as an application paces it
						for i := 0; ; i++ {
							if _, err := from.Write(make([]byte, 20_000)); err != nil {
								return
							}
							time.Sleep(10 * time.Millisecond)
						}
					})
					wg.Go(func() { io.Copy(&got, readOnly{to}) })
					time.Sleep(2 * time.Second)
					p.set(func(p *pipe) { p.cut = true })
					time.Sleep(cut)
					p.mend()
					before, start := got.load(), time.Now()
					for got.load() < before+100_000 {
						time.Sleep(time.Millisecond)
						if time.Since(start) > time.Minute {
							t.Fatal("nothing flows")
						}
					}
					d := time.Since(start)
					t.Logf("flows after %v", d)
					// A copy's acknowledgement measures the RTT from when its first one was sent, up
					// to a minute before, so the pace takes some packets to find back.
					if d > 10*rtt+cut/50 {
						t.Errorf("it took %v after a cut of %v until data flowed", d, cut)
					}
					p.end(errOver)
					wg.Wait()
				})
			})
		}
	}
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) Write(p []byte) (int, error) {
	c.add(len(p))
	return len(p), nil
}

func (c *counter) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
}

func (c *counter) load() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// A peer that says RESUME without end does not make us send without end.
func TestThreatResumeFlood(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		streams(t, client, server)
		time.Sleep(time.Second)
		var before, after int
		p.set(func(p *pipe) { before = p.sent })
		const asked = 10_000
		for range asked { // in a second
			p.client.SendDatagram([]byte{resume})
			time.Sleep(100 * time.Microsecond)
		}
		time.Sleep(time.Second)
		p.set(func(p *pipe) { after = p.sent })
		if n := after - before - asked; n < recentPackets || n > 52*2*recentPackets {
			t.Errorf("%d datagrams for %d RESUMEs in a second, want at most %d", n, asked, 50*2*recentPackets)
		}
	})
}

// The end of the session is the end of all streams, and says why.
func TestSessionEnds(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		near, far := streams(t, client, server)
		p.end(errOver)
		for _, s := range []*Stream{near, far} {
			if _, err := s.Read(make([]byte, 1)); err != errOver {
				t.Errorf("read: %v", err)
			}
			if _, err := s.Write(make([]byte, 1)); err != errOver {
				t.Errorf("write: %v", err)
			}
		}
		<-client.Done()
		<-server.Done()
		if _, err := client.Open(t.Context()); err != errOver || client.Err() != errOver {
			t.Errorf("open: %v, %v", err, client.Err())
		}
		if _, err := server.Accept(t.Context()); err != errOver {
			t.Errorf("accept: %v", err)
		}
	})
}

// Close reaches the other end, which may have a session of its own still.
func TestClose(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		near, far := streams(t, client, server)
		client.Close()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("here: %v", err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("there: %v", err)
		}
		<-server.Done()
	})
}

// Where another session took the place of the lost one, nobody knows the streams.
func TestReplaced(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		near, _ := streams(t, client, server)
		p.client.mu.Lock()
		p.client.generation++
		p.client.mu.Unlock()
		p.client.notify()
		if _, err := near.Read(make([]byte, 1)); err != ErrReplaced || !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
	})
}

func TestNoStreams(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		start := time.Now()
		if _, err := Client(t.Context(), p.client, Config{}); !errors.Is(err, ErrNoStreams) {
			t.Errorf("nobody answers: %v", err)
		}
		if d := time.Since(start); d > 3*handshakePatience {
			t.Errorf("found out after %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Client(ctx, p.client, Config{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a context that ends: %v", err)
		}
	})
	for name, datagram := range map[string]string{"text": "hello", "like a short header": "@hello"} {
		bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
			p.client.SendDatagram([]byte(datagram))
			if _, err := Server(t.Context(), p.server, Config{}); !errors.Is(err, ErrNoStreams) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		go func() {
			time.Sleep(time.Hour)
			p.end(errOver)
		}()
		if _, err := Server(t.Context(), p.server, Config{}); err != errOver {
			t.Errorf("a session that ends: %v", err)
		}
	})
}

// The peer waits with more streams than it may have.
func TestMaxStreams(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{MaxStreams: 2})
		first, far := streams(t, client, server)
		streams(t, client, server)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a third: %v", err)
		}
		first.Close()
		far.Close()
		streams(t, client, server)
	})
}
