// SPDX-License-Identifier: Apache-2.0

package server

import (
	"flag"
	"math/bits"
	"runtime"
	"testing"
	"time"
)

// Fewer would show what a server needs without any.
var memorySessions = flag.Int("memory.sessions", 20_000, "how many idle sessions TestIdleMemory keeps")

// Row 18 of docs/BENCHMARKS.md: the Go heap of an idle session, all that a server
// keeps for it but the table, which is the data plane's.
func TestIdleMemory(t *testing.T) {
	n := *memorySessions
	// A million sessions of three ids need four million slots, and each a number.
	const slotIndex = 16
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // pools let go at the second
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		return ms.HeapAlloc
	}
	srv := newBareServer(t, uint32(1)<<bits.Len(uint(4*n)))
	sessions := make([]*Session, n)
	before := heap()
	for i := range sessions {
		sessions[i] = srv.open(t, i).s
	}
	later := srv.clock.now() + 30*time.Second // its keys are released by then
	for _, s := range sessions {
		s.mu.Lock()
		s.state.Tick(later, &srv.reader.snd.out)
		s.settle(later, &srv.reader.snd.out, srv.reader.counts)
		s.mu.Unlock()
		srv.reader.snd.flush(srv.reader.counts)
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
	each := int(heap()-before)/n + slotIndex
	runtime.KeepAlive(sessions)
	runtime.KeepAlive(srv)
	t.Logf("%d bytes for each of %d idle sessions", each, n)
	if each > 1536 {
		t.Error("more than 1.5 KiB")
	}
}
