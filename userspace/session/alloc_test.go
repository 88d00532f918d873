// SPDX-License-Identifier: Apache-2.0

package session

import (
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// The steady state allocates nothing: not to send, not to receive, not to ask for
// the deadline, and not to answer a PING or put parts together either.
func TestAllocs(t *testing.T) {
	m := opened(t, 1)
	for _, size := range []int{0, 100, 1200, 3000} {
		data := make([]byte, size)
		// One round trip of everything first, so that buffers have their size and a
		// search for the path MTU is over.
		for range 4 {
			m.clientSend(string(data))
			m.run(time.Second)
		}
		var got int
		round := func() {
			m.now += time.Millisecond
			if err := m.c.Send(m.now, data, &m.c.out); err != nil {
				t.Fatal(err)
			}
			for _, p := range m.c.out.Packets {
				m.s.Receive(m.now, Path{Remote: addrA}, p.Data, &m.s.out)
			}
			got += len(m.s.out.Datagrams)
			m.s.Deadline()
			m.c.Deadline()
			m.s.out.Reset()
			m.c.out.Reset()
		}
		const runs = 200
		if n := testing.AllocsPerRun(runs, round); n != 0 {
			t.Errorf("datagrams of %d bytes: %v allocations", size, n)
		}
		if got != runs+1 {
			t.Errorf("datagrams of %d bytes: %d of %d came", size, got, runs+1)
		}
	}
	if testutil.Race {
		return // random bytes are not on the stack there
	}
	ping := func() {
		m.now += time.Millisecond
		m.c.Ping(m.now, &m.c.out)
		for _, p := range m.c.out.Packets {
			m.s.Receive(m.now, Path{Remote: addrA}, p.Data, &m.s.out)
		}
		for _, p := range m.s.out.Packets {
			m.c.Receive(m.now, Path{Socket: 1, Remote: serverAddr}, p.Data, &m.c.out)
		}
		m.s.out.Reset()
		m.c.out.Reset()
	}
	ping()
	m.c.options, m.s.options = nil, nil // what the system's generator fills is not allocated
	if n := testing.AllocsPerRun(200, ping); n != 0 {
		t.Errorf("PING and PONG: %v allocations", n)
	}
}

func BenchmarkReceive(b *testing.B) {
	m := opened(b, 1)
	data := make([]byte, 1200)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		m.now += time.Microsecond
		if m.c.rid.counter > 1<<27 {
			b.Skip("the id is used up")
		}
		m.c.Send(m.now, data, &m.c.out)
		for _, p := range m.c.out.Packets {
			m.s.Receive(m.now, Path{Remote: addrA}, p.Data, &m.s.out)
		}
		m.s.out.Reset()
		m.c.out.Reset()
	}
}
