// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/session"
)

const million = 1_000_000

// table is what a server with a million sessions would tell of them; each is
// behind a lock and a pointer, as there.
type table struct {
	shown
	sessions []*tableSession
}

type tableSession struct {
	mu   sync.Mutex
	info server.SessionInfo
}

func (t *table) Sessions(f func(control.Live) bool) {
	for _, s := range t.sessions {
		if !f(s) {
			return
		}
	}
}

func (s *tableSession) Read(into *control.Session) {
	s.mu.Lock()
	info := s.info
	s.mu.Unlock()
	readSession(into, &info)
}

func (s *tableSession) Trace(int, func(*control.Packet)) func() { return func() {} }

func (s *tableSession) Detail() control.Detail { return control.Detail{} }
func (s *tableSession) Close(string) error     { return nil }

func newTable(count int) *table {
	t := &table{sessions: make([]*tableSession, count)}
	random := rand.New(rand.NewPCG(1, 2))
	start := time.Now().Add(-time.Hour)
	for n := range t.sessions {
		info := server.SessionInfo{PeerName: "client", Service: uint16(1 + n%100), Owner: n % 8, Opened: start, LastReceived: start.Add(time.Minute)}
		binary.BigEndian.PutUint64(info.ID[:], random.Uint64())
		info.LocalID, info.PeerKey = info.ID, [32]byte{1, byte(n)}
		info.State = session.StateOpen
		info.Path.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, byte(n >> 16), byte(n >> 8), byte(n)}), uint16(1024+n%60000))
		info.Path.Local = netip.MustParseAddrPort("192.0.2.1:7626")
		info.SRTT = time.Duration(random.Int64N(int64(100 * time.Millisecond)))
		info.Moves.Committed = random.Uint64N(1000)
		info.MoveCommitted = start.Add(time.Duration(n) * time.Millisecond)
		info.Received = session.Traffic{Packets: random.Uint64N(1e6), Bytes: random.Uint64N(1e9)}
		t.sessions[n] = &tableSession{info: info}
	}
	return t
}

// BenchmarkSessionList is `session list`, a process of its own, against a daemon with
// a million sessions: what it is asked for must be there in two seconds, be it a few
// of them or all.
func BenchmarkSessionList(b *testing.B) {
	path := filepath.Join(b.TempDir(), "control.sock")
	server, err := control.Listen(path, control.NewHandler(newTable(million)))
	if err != nil {
		b.Fatal(err)
	}
	go server.Serve()
	b.Cleanup(func() { server.Close() })
	for _, c := range []struct {
		name  string
		args  string
		lines int
	}{
		{"top20", "--sort moves --limit 20", 21},
		{"service", "--service 7", million/100 + 1},
		{"moved", "--moved-since 45m --sort last-move --limit 1000", 1001},
		{"id", "--limit 1 00", 2},
		{"all", "", million + 1},
		{"allByRTT", "--sort rtt", million + 1},
		{"allJSONLines", "-o jsonl", million},
		{"allJSON", "-o json", million + 6},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				var lines lineCounter
				var stderr bytes.Buffer
				list := exec.Command("xdp-roam", append([]string{"--control", path, "session", "list"}, strings.Fields(c.args)...)...)
				list.Stdout, list.Stderr = &lines, &stderr
				if err := list.Run(); err != nil || int(lines) != c.lines {
					b.Fatalf("%v: %d lines, want %d: %s", err, lines, c.lines, &stderr)
				}
			}
			if took := b.Elapsed() / time.Duration(b.N); took > 2*time.Second {
				b.Errorf("%s took %v", c.args, took)
			}
		})
	}
}

type lineCounter int

func (n *lineCounter) Write(p []byte) (int, error) {
	*n += lineCounter(bytes.Count(p, []byte("\n")))
	return len(p), nil
}

var _ io.Writer = new(lineCounter)
