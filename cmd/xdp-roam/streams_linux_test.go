// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// listenTCP is a service at the edge that handle serves.
func (b *labBench) listenTCP(handle func(*net.TCPConn)) (port uint16) {
	b.t.Helper()
	var l net.Listener
	if err := b.edge.Do(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	b.t.Cleanup(func() {
		l.Close()
		wait.Wait() // each connection ends with the processes between
	})
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// dialTCP is a local program at the client that connects to a forwarded port.
func (b *labBench) dialTCP(port uint16) *net.TCPConn {
	b.t.Helper()
	var c net.Conn
	if err := b.client.Do(func() (err error) {
		c, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * patience))
	return c.(*net.TCPConn)
}

// startTCP starts an edge with a TCP service on port 22 and a client that
// forwards to it from port 2222.
func (b *labBench) startTCP(backend uint16) (client *process) {
	b.t.Helper()
	b.startEdge("--mode", "xdp", "--interface", "edge0", "--service", fmt.Sprintf("22=tcp://localhost:%d", backend), "--service", "23=tcp://localhost:1")
	client = b.start(b.client, "connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--identity", b.path("client.key"),
		"-L", "2222:22", "-L", "2323:23")
	client.waitFor("forwards to service 23")
	return client
}

// established counts the connections of a service at the edge.
func (b *labBench) established(port uint16) (n int) {
	b.t.Helper()
	if err := b.edge.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/tcp")
		n = strings.Count(string(text), fmt.Sprintf(":%04X 0100007F:", port)) // as the local end
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// TCP through the edge is TCP: many connections at once, half-closes, resets and
// refusals come out at the other end as what they were.
func TestStreams(t *testing.T) {
	b := newLabBench(t)
	resets := make(chan error, 1)
	backend := b.listenTCP(func(c *net.TCPConn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			return
		}
		switch first[0] {
		case 'e': // echo
			if _, err := io.Copy(c, c); err == nil {
				_ = c.CloseWrite()
			}
		case 'r': // reset as soon as something comes
			_, _ = io.ReadFull(c, first)
			_ = c.SetLinger(0)
		case 'w': // wait for the client's end
			_, _ = c.Write(first)
			_, err := io.Copy(io.Discard, c)
			resets <- err
		}
	})
	client := b.startTCP(backend)

	var wait sync.WaitGroup
	for i := range 100 {
		c := b.dialTCP(2222)
		wait.Go(func() {
			data := make([]byte, 20_000+i)
			rand.NewChaCha8([32]byte{byte(i)}).Read(data)
			if _, err := c.Write(append([]byte("e"), data...)); err != nil {
				t.Error(err)
			}
			c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("connection %d: %d bytes of %d, %v", i, len(got), len(data), err)
			}
		})
	}
	wait.Wait()
	b.sessions(2) // one for each service

	c := b.dialTCP(2222)
	c.Write([]byte("rx"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the backend's reset came as %v", err)
	}
	c = b.dialTCP(2222)
	c.Write([]byte("w"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.SetLinger(0)
	c.Close()
	select {
	case err := <-resets:
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client's reset came as %v", err)
		}
	case <-time.After(patience):
		t.Error("the client's reset did not come")
	}
	if err := b.client.Do(func() error { // the reset may come before the connection is seen to stand
		c, err := net.Dial("tcp", "127.0.0.1:2323")
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * patience))
		_, err = c.Read(make([]byte, 1))
		return err
	}); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a backend that is down: %v", err)
	}
	client.waitFor("nothing listens at the service's address")
	until(t, "no connection of the backend is left", func() bool { return b.established(backend) == 0 })
}

// flow is one direction of a transfer: bytes that nobody can guess, and their sum.
type flow struct {
	bytes atomic.Int64
	sum   hash.Hash
}

func (f *flow) Write(p []byte) (int, error) {
	f.bytes.Add(int64(len(p)))
	return f.sum.Write(p)
}

// stream writes until stop is closed, then ends the direction.
func (f *flow) stream(c *net.TCPConn, seed byte, stop <-chan struct{}) error {
	source := rand.NewChaCha8([32]byte{seed})
	p := make([]byte, 64<<10)
	for {
		select {
		case <-stop:
			return c.CloseWrite()
		default:
		}
		source.Read(p)
		if _, err := c.Write(p); err != nil {
			return err
		}
		f.Write(p)
	}
}

// TestStreamsMove carries bytes at full speed in each direction, while the client
// changes its address, and then while the wire is dead for three seconds.
func TestStreamsMove(t *testing.T) {
	for _, direction := range []string{"up", "down"} {
		t.Run(direction, func(t *testing.T) {
			b := newLabBench(t)
			sent, received := &flow{sum: sha256.New()}, &flow{sum: sha256.New()}
			stop := make(chan struct{})
			failed := make(chan error, 2)
			up := direction == "up"
			backend := b.listenTCP(func(c *net.TCPConn) {
				if up {
					_, err := io.Copy(received, c)
					failed <- err
					return
				}
				failed <- sent.stream(c, 1, stop)
				_, _ = io.Copy(io.Discard, c)
			})
			client := b.startTCP(backend)
			c := b.dialTCP(2222)
			go func() {
				if up {
					failed <- sent.stream(c, 1, stop)
					return
				}
				_, err := io.Copy(received, c)
				failed <- err
			}()
			flowing := func(what string) {
				t.Helper()
				before := received.bytes.Load()
				until(t, "bytes "+what, func() bool { return received.bytes.Load() > before+1<<20 })
			}
			flowing("at first")
			steady := carried(received, 3*time.Second)
			const moves = 4
			start, before := time.Now(), received.bytes.Load()
			for i := range moves {
				said := len(client.said())
				b.moveClient(i)
				until(t, "the move", func() bool { return strings.Contains(client.said()[said:], "service 22: moved to ") })
				time.Sleep(time.Until(start.Add(time.Duration(i+1) * time.Second)))
			}
			flowing("after the moves")
			moving := float64(received.bytes.Load()-before) / time.Since(start).Seconds() / 1e6

			if err := b.edge.SetUp("edge0", false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			if err := b.edge.SetUp("edge0", true); err != nil {
				t.Fatal(err)
			}
			mended := time.Now()
			flowing("after the cut")
			pause := time.Since(mended)
			t.Logf("%s: %.0f MB/s, with a move each second %.0f MB/s; 1 MB more %v after a cut of 3 s", direction, steady, moving, pause.Round(time.Millisecond))

			close(stop)
			for range 2 {
				if err := <-failed; err != nil {
					t.Errorf("the transfer: %v", err)
				}
			}
			if got, want := received.sum.Sum(nil), sent.sum.Sum(nil); !bytes.Equal(got, want) {
				t.Errorf("%d bytes were sent, and %d others came", sent.bytes.Load(), received.bytes.Load())
			}
			if s := b.sessions(2); s[0].Moves < moves && s[1].Moves < moves {
				t.Errorf("the sessions have moved %d and %d times, want %d", s[0].Moves, s[1].Moves, moves)
			}
		})
	}
}

// carried is what comes in MB/s.
func carried(f *flow, during time.Duration) float64 {
	before, start := f.bytes.Load(), time.Now()
	time.Sleep(during)
	return float64(f.bytes.Load()-before) / time.Since(start).Seconds() / 1e6
}

// moveClient gives the client's link the other one of its addresses.
func (b *labBench) moveClient(turn int) {
	b.t.Helper()
	old, next := clientAddrs[turn%2], clientAddrs[(turn+1)%2]
	if err := errors.Join(
		b.client.DelAddr("client0", netip.PrefixFrom(old, 24)), // first: it would take a second one of its net along
		b.client.AddAddr("client0", netip.PrefixFrom(next, 24)),
	); err != nil {
		b.t.Fatal(err)
	}
}
