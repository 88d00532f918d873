// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// issueNothing issues ids that no table holds.
type issueNothing struct{ next uint32 }

func (i *issueNothing) Issue() (id wire.ID, reset wire.Token, err error) {
	i.next++
	binary.BigEndian.PutUint32(id[:], i.next)
	return id, reset, nil
}

func (*issueNothing) Retire(wire.ID) {}

// An idle session is small: a server holds a million. What the server keeps beside
// it comes on top.
func TestIdleSize(t *testing.T) {
	const n = 1000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // pools let go at the second
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		return ms.HeapAlloc
	}
	ids := new(issueNothing)
	for _, life := range []struct {
		name  string
		moves int
		limit uint64
	}{{"that never moved", 0, 1152}, {"that moved", 3, 1248}} {
		sessions := make([]*Session, 0, n)
		before := heap()
		for i := range n {
			m := opened(t, uint64(i))
			m.s.Session.ids, m.s.Session.options = ids, nil
			for socket := range life.moves {
				m.move(uint32(2+socket), []netip.AddrPort{addrB, addrC}[socket%2])
				m.run(time.Second)
			}
			m.clientSend("x")
			m.run(30 * time.Second)
			if m.s.State() != StateOpen {
				t.Fatal(m.s.State())
			}
			sessions = append(sessions, m.s.Session)
		}
		each := (heap() - before) / n
		runtime.KeepAlive(sessions)
		t.Logf("%d bytes for each idle session of a server %s", each, life.name)
		if each > life.limit {
			t.Errorf("more than %d", life.limit)
		}
	}
}
