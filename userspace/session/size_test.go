// SPDX-License-Identifier: Apache-2.0

package session

import (
	"runtime"
	"testing"
	"time"
)

// An idle session is small: a server holds hundreds of thousands.
func TestIdleSize(t *testing.T) {
	const n = 200
	heap := func() uint64 {
		runtime.GC()
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		return ms.HeapAlloc
	}
	sessions := make([]*Session, 0, 2*n)
	before := heap()
	for i := range n {
		m := opened(t, uint64(i))
		m.clientSend("x")
		m.run(30 * time.Second)
		sessions = append(sessions, m.c.Session, m.s.Session)
	}
	each := (heap() - before) / (2 * n)
	runtime.KeepAlive(sessions)
	t.Logf("%d bytes for each idle session", each)
	if each > 5<<10 {
		t.Errorf("%d bytes for each idle session", each)
	}
}
