// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// soakEnv, when set, has TestSoakLossyLink run in full: 1,000 sessions that move
// 100 times each, which takes a minute or two.
const soakEnv = "XDP_ROAM_SOAK"

// lossy is a link that loses one packet in twenty, in either direction.
type lossy struct {
	netio.Conn
	lost *atomic.Uint64
}

const lossOneIn = 20

func (l lossy) loses() bool {
	if rand.IntN(lossOneIn) != 0 {
		return false
	}
	l.lost.Add(1)
	return true
}

func (l lossy) WriteBatch(ms []netio.Message) (int, error) {
	for i := range ms {
		if l.loses() {
			continue
		}
		if _, err := l.Conn.WriteBatch(ms[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(ms), nil
}

func (l lossy) ReadBatch(ms []netio.Message) (int, error) {
	for {
		n, err := l.Conn.ReadBatch(ms)
		kept := 0
		for i := range n {
			if !l.loses() {
				ms[kept], ms[i] = ms[i], ms[kept]
				kept++
			}
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}

// lossyNetwork is a network of one loopback address at a time behind such links.
type lossyNetwork struct {
	network
	lost *atomic.Uint64
}

func (n *lossyNetwork) Listen(way client.Way) (netio.Conn, error) {
	conn, err := n.network.Listen(way)
	if err != nil {
		return nil, err
	}
	return lossy{conn, n.lost}, nil
}

func (n *lossyNetwork) watched() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed != nil
}

// TestSoakLossyLink has real clients move again and again under 5 % loss, with a
// real server: each is answered after each move, none needs a new session, and at
// the end nothing of them is left.
func TestSoakLossyLink(t *testing.T) {
	sessions, moves := 40, 12
	switch {
	case os.Getenv(soakEnv) != "":
		sessions, moves = 1000, 100
	case testing.Short():
		sessions, moves = 10, 5
	}
	srv, err := server.Listen(server.Config{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), Static: handshake.NewPrivateKey(), Workers: 2, TableSlots: 1 << 15,
		Cookie: server.CookieNever,
		Limits: server.Limits{PrefixRate: 1 << 20, PrefixBurst: 1 << 20, PrefixHalfOpen: 1 << 20, ReceiveBuffer: 4 << 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		var wg sync.WaitGroup
		defer wg.Wait()
		for {
			s, err := srv.Accept(t.Context())
			if err != nil {
				return
			}
			wg.Go(func() {
				for p := make([]byte, 200); ; {
					n, err := s.ReceiveDatagram(context.Background(), p)
					if err != nil {
						return
					}
					s.SendDatagram(p[:n])
				}
			})
		}
	}()
	// Once through, so that what is made once is not taken for a leak.
	var lost atomic.Uint64
	soak(t, srv, 0, 1, &lost)
	settled(t, srv)
	goroutines, memory := runtime.NumGoroutine(), liveHeap()

	var wg sync.WaitGroup
	turn := make(chan struct{}, 200) // so many at once; the others wait
	for i := range sessions {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			soak(t, srv, 1+i, moves, &lost)
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	settled(t, srv)
	st := srv.Stats()
	t.Logf("%d sessions: %d moves, %d went back, %d packets lost", st.Opened, st.RoamsCommitted, st.RoamsReverted, lost.Load())
	if st.Opened != uint64(sessions)+1 || st.Closed != st.Opened || st.Packets[server.AuthFailed] != 0 || st.OrphansFreed != 0 {
		t.Errorf("%d sessions were opened for %d clients, %d closed, %d packets did not open, %d ids were orphans",
			st.Opened, sessions+1, st.Closed, st.Packets[server.AuthFailed], st.OrphansFreed)
	}
	// A train of moves may be validated at its end only.
	if st.RoamsCommitted < uint64(sessions*moves)/2 || lost.Load() < uint64(sessions*moves)/lossOneIn {
		t.Errorf("too little happened: %d moves, %d packets lost", st.RoamsCommitted, lost.Load())
	}
	waitUntil(t, "no more goroutines than before", func() bool { return runtime.NumGoroutine() <= goroutines })
	const bound = 8 << 20
	if more := liveHeap() - memory; more > bound {
		t.Errorf("%d KiB more than before are in use", more>>10)
	}
}

// soak is the life of one client.
func soak(t *testing.T, srv *server.Server, number, moves int, lost *atomic.Uint64) {
	here := func(i int) string { return fmt.Sprintf("127.%d.%d.%d", 1+number/200, 1+number%200, 1+i%200) }
	n := &lossyNetwork{network{local: netip.MustParseAddr(here(0))}, lost}
	var s *client.Session
	var err error
	for range 5 { // an INIT and all its repeats may be lost
		s, err = client.Dial(t.Context(), client.Config{
			Servers: []netip.AddrPort{srv.Addr()}, ServerKey: srv.PublicKey(), Service: 7, Network: n, ReceiveBuffer: 4 << 10,
			// For a server that no CLOSE reaches.
			Params: handshake.Params{IdleTimeout: 20 * time.Second},
		})
		if err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("client %d: %v", number, err)
		return
	}
	defer s.Close(wire.CloseDone, "")
	ask := func(question string) bool {
		p := make([]byte, 200)
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			if err := s.SendDatagram([]byte(question)); err != nil {
				t.Errorf("client %d: %v", number, err)
				return false
			}
			for ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond); ; {
				n, err := s.ReceiveDatagram(ctx, p)
				if err != nil || string(p[:n]) == question {
					cancel()
					if err == nil {
						return true
					}
					break
				}
			}
		}
		t.Errorf("client %d is lost for ever: no answer to %q; %+v", number, question, s.Info())
		return false
	}
	waitUntil(t, "the client watches its network", n.watched)
	for i := range moves + 1 {
		if i > 0 {
			n.become(here(i))
			if !waitUntil(t, fmt.Sprintf("client %d has moved to %s", number, here(i)), func() bool {
				return s.LocalAddr().Addr().String() == here(i)
			}) {
				return
			}
		}
		if !ask(fmt.Sprintf("%d from %d", i, number)) {
			return
		}
	}
	if g := s.Generation(); g != 1 {
		t.Errorf("client %d needed %d sessions", number, g)
	}
}

// settled waits until the server has nothing left of its sessions.
func settled(t *testing.T, srv *server.Server) {
	t.Helper()
	waitUntil(t, "no session and no slot is left", func() bool {
		st := srv.Stats()
		return st.Sessions == 0 && st.HalfOpen == 0 && st.TableUsed == 0
	})
}

func waitUntil(t *testing.T, what string, ok func() bool) bool {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("never: %s", what)
			return false
		}
	}
	return true
}

// liveHeap is the memory in use in bytes.
func liveHeap() int64 {
	for range 3 { // pools give theirs back in two steps, finalizers in one more
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
