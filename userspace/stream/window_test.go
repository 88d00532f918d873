// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"
)

// A server whose streams nobody reads holds what the first window has and no more,
// on however many streams it comes.
func TestThreatUnreadStreams(t *testing.T) {
	bubble(t, time.Millisecond, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		var wg sync.WaitGroup
		var taken counter
		var open [64]*Stream
		for i := range open {
			open[i], _ = streams(t, client, server)
		}
		for _, near := range open {
			near.SetWriteDeadline(time.Now().Add(10 * time.Second))
			wg.Go(func() {
				n, err := near.Write(make([]byte, 1<<20))
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("writing what nobody reads: %d, %v", n, err)
				}
				taken.add(n)
			})
		}
		wg.Wait()
		// A packet of each stream may wait to be sent at its writer.
		if n, most := taken.load(), int(serverFirst.connection)+64*packetSize; n > most {
			t.Errorf("%d bytes were taken, want at most %d", n, most)
		}
		if n := server.window.taken.Load(); n != 0 {
			t.Errorf("the window grew by %d while nobody read", n)
		}
	})
}

// The window grows for a reader that keeps up, within some round trips, and what it
// has grown by is given back.
func TestWindowGrows(t *testing.T) {
	const rtt = 40 * time.Millisecond
	before := process.taken.Load()
	bubble(t, rtt/2, func(t *testing.T, p *pipe) {
		client, server := p.connect(t, Config{})
		near, far := streams(t, client, server)
		const size = 20 << 20
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			near.Write(make([]byte, size))
			near.CloseWrite()
		})
		if n, err := io.Copy(io.Discard, far); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		wg.Wait()
		d := time.Since(start)
		t.Logf("20 MB over a round trip of %v took %v", rtt, d)
		if d > 40*rtt {
			t.Errorf("20 MB over a round trip of %v took %v", rtt, d)
		}
		if n := process.taken.Load() - before; n == 0 || n != server.window.taken.Load() {
			t.Errorf("the window grew by %d, and %d is taken", server.window.taken.Load(), n)
		}
		p.end(errOver)
	})
	if n := process.taken.Load(); n != before {
		t.Errorf("%d bytes are not given back", n-before)
	}
}

// A session that is new is held up by QUIC's slow start alone, in neither direction by
// its small first windows: within 6 and 11 round trips, as with windows that would
// never hold it up.
func TestNewSessionFlows(t *testing.T) {
	for _, c := range []struct {
		rtt   time.Duration
		size  int
		trips time.Duration
	}{
		{40 * time.Millisecond, 1 << 20, 9}, {40 * time.Millisecond, 20 << 20, 18},
		{100 * time.Millisecond, 1 << 20, 9}, {100 * time.Millisecond, 20 << 20, 15},
	} {
		for _, up := range []bool{true, false} {
			bubble(t, c.rtt/2, func(t *testing.T, p *pipe) {
				client, server := p.connect(t, Config{})
				from, to := streams(t, client, server)
				if !up {
					from, to = to, from
				}
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					from.Write(make([]byte, c.size))
					from.CloseWrite()
				})
				if n, err := io.Copy(io.Discard, to); n != int64(c.size) || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				wg.Wait()
				d := time.Since(start)
				t.Logf("up %v: %d MB over a round trip of %v took %v", up, c.size>>20, c.rtt, d)
				if d > c.trips*c.rtt {
					t.Errorf("up %v: %d MB took %.1f round trips of %v, want at most %d", up, c.size>>20, float64(d)/float64(c.rtt), c.rtt, c.trips)
				}
				p.end(errOver)
			})
		}
	}
}

// Connections that take all that they can leave something to those that come later.
func TestThreatGreedyWindows(t *testing.T) {
	b := &budget{size: 1 << 30}
	greedy := make([]allowance, 256)
	for i := range greedy {
		greedy[i].of = b
		for delta := uint64(256 << 10); greedy[i].taken.Load()+int64(delta) <= maxWindow && greedy[i].take(delta); {
		}
	}
	late := &allowance{of: b}
	if !late.take(64 << 10) {
		t.Errorf("nothing is left after %d connections, which have %d", len(greedy), b.taken.Load())
	}
	late.release()
	for i := range greedy {
		greedy[i].release()
	}
	if n := b.taken.Load(); n != 0 {
		t.Errorf("%d is taken by nobody", n)
	}
	// Many at once never take more than there is.
	var wg sync.WaitGroup
	for i := range greedy {
		wg.Go(func() {
			for greedy[i].take(64 << 10) {
			}
		})
	}
	wg.Wait()
	if n := b.taken.Load(); n > b.size {
		t.Errorf("%d of %d are taken", n, b.size)
	}
}
