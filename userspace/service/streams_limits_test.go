// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/relay"
	"github.com/xdp-roam/xdp-roam/userspace/stream"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Of one stream too many, both ends hear why, and the others go on.
func TestStreamLimits(t *testing.T) {
	for want, limits := range map[string]Limits{
		"your key has its 2 connections":    {ClientStreams: 2},
		"the service has its 2 connections": {Streams: 2},
	} {
		l, spec := newBackend(t)
		e := newEdge(t, spec, limits)
		_, m := e.dial()
		first := connect(t, m)
		far := accept(t, l)
		second := connect(t, m)
		accept(t, l)
		if err := errors.Join(first.Answer(), second.Answer()); err != nil {
			t.Fatal(err)
		}
		var refused *relay.RefusedError
		if err := connect(t, m).Answer(); !errors.As(err, &refused) || refused.Status != relay.StatusLimit || !strings.Contains(refused.Reason, want) {
			t.Errorf("one too many: %v, want %q", err, want)
		}
		if u := e.service.Use(); u.Streams != 2 || u.StreamsServed != 2 || u.StreamsRefused != 1 {
			t.Errorf("counted %+v", u)
		}
		first.Write([]byte("on"))
		if _, err := io.ReadFull(far, make([]byte, 2)); err != nil {
			t.Errorf("the others: %v", err)
		}
		first.CloseWrite()
		far.Close()
		until(t, "there is room again", func() bool {
			c := connect(t, m)
			defer c.Reset(relay.CodeNone)
			return c.Answer() == nil
		})
	}
}

func TestStreamIdleTimeout(t *testing.T) {
	t.Parallel()
	l, spec := newBackend(t)
	const timeout = 5 * time.Second // a busy machine does not pause for as long
	_, m := newEdge(t, spec, Limits{IdleTimeout: timeout}).dial()
	near := connect(t, m)
	far := accept(t, l)
	for start := time.Now(); time.Since(start) < timeout+timeout/10; {
		if _, err := near.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(75 * time.Millisecond)
	}
	var reset *stream.ResetError
	if _, err := near.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.Code != relay.CodeIdle {
		t.Errorf("read: %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the backend's read: %v", err)
	}
}

// A rate slows a stream down and loses nothing.
func TestStreamRate(t *testing.T) {
	l, spec := newBackend(t)
	_, m := newEdge(t, spec, Limits{ClientRate: 1 << 20}).dial()
	near := connect(t, m)
	far := accept(t, l)
	start := time.Now()
	const size = 1 << 20
	var wg sync.WaitGroup
	for _, end := range []io.ReadWriter{near, far} {
		wg.Go(func() {
			end.Write(make([]byte, size))
			end.(relayEnd).CloseWrite()
		})
		wg.Go(func() {
			if n, err := io.Copy(io.Discard, end); n != size || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	wg.Wait()
	// A second less the burst, both directions beside each other.
	if d := time.Since(start); d < 800*time.Millisecond {
		t.Errorf("1 MB at 1 MB/s took %v", d)
	}
}

// Bytes that wait for their turn are under way: their stream is not idle, however
// long that takes.
func TestSlowStreamIsNotIdle(t *testing.T) {
	t.Parallel()
	l, spec := newBackend(t)
	_, m := newEdge(t, spec, Limits{ClientRate: 16 << 10, IdleTimeout: 3 * time.Second}).dial()
	near := connect(t, m)
	far := accept(t, l)
	data := make([]byte, 96<<10) // six seconds' worth
	go func() {
		near.Write(data)
		near.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, far); n != int64(len(data)) || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A client that speaks datagrams to a service for streams is told so.
func TestDatagramsToStreams(t *testing.T) {
	_, spec := newBackend(t)
	e := newEdge(t, spec, Limits{})
	s, err := client.Dial(t.Context(), client.Config{Servers: []netip.AddrPort{e.srv.Addr()}, ServerKey: e.key.Public(), Service: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(wire.CloseDone, "")
	if err := s.SendDatagram([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if err := s.Err(); !strings.Contains(err.Error(), "carries streams") {
		t.Errorf("%v", err)
	}
}

// Nothing half-open stays, however streams end.
func TestThreatStreamsLeft(t *testing.T) {
	l, spec := newBackend(t)
	var open atomic.Int64
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			open.Add(1)
			go func() { // echo
				defer open.Add(-1)
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	e := newEdge(t, spec, Limits{})
	s, m := e.dial()
	c := connect(t, m)
	if err := c.Answer(); err != nil {
		t.Fatal(err)
	}
	c.Reset(relay.CodeNone)
	until(t, "the first is over", func() bool { return open.Load() == 0 })
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			c := connect(t, m)
			c.Write([]byte("ping"))
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Error(err)
			}
			switch i % 5 {
			case 0:
				c.CloseWrite()
				io.Copy(io.Discard, c)
			case 1:
				c.Reset(relay.CodeReset)
			case 2:
				c.Close()
			case 3:
				c.CloseRead(relay.CodeNone)
				c.CloseWrite()
			case 4:
				c.Write(make([]byte, 1<<20)) // comes back into nobody's hands
				c.Close()
			}
		})
	}
	wg.Wait()
	until(t, "no connection of the backend is left", func() bool { return open.Load() == 0 })
	until(t, "no stream is counted", func() bool {
		e.service.gate.mu.Lock()
		defer e.service.gate.mu.Unlock()
		return e.service.gate.total.streams == 0
	})
	until(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	// The session's end takes those with it that are in use.
	for range 10 {
		c := connect(t, m)
		if err := c.Answer(); err != nil {
			t.Fatal(err)
		}
	}
	s.Close(wire.CloseDone, "")
	until(t, "no connection of the backend is left", func() bool { return open.Load() == 0 })
	until(t, "no session is counted", func() bool {
		e.service.gate.mu.Lock()
		defer e.service.gate.mu.Unlock()
		return e.service.gate.total.sessions == 0 && len(e.service.gate.clients) == 0
	})
}

// A peer that opens a stream and never says anything holds up no shutdown.
func TestThreatSilentStream(t *testing.T) {
	_, spec := newBackend(t)
	e := newEdge(t, spec, Limits{})
	_, m := e.dial()
	if _, err := m.Open(t.Context()); err != nil { // the next one lets the server hear of it
		t.Fatal(err)
	}
	if err := connect(t, m).Answer(); err != nil {
		t.Fatal(err)
	}
	e.end()
	over := make(chan struct{})
	go func() { e.wait.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(patience):
		t.Error("the service waits for the stream")
	}
}
