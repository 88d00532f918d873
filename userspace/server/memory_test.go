// SPDX-License-Identifier: Apache-2.0

package server

import (
	"math/bits"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Row 18 of docs/BENCHMARKS.md: the Go heap of an idle session, all that a server
// keeps for it but the table, which is the data plane's. Sessions that handshakes
// have made cost no more than those of BenchmarkIdle.
func TestIdleMemory(t *testing.T) {
	const n = 2048
	derived := openIdle(t, n, 1<<9, (*puppets).derive).heapOf(n)
	shaken := openIdle(t, n, 1<<9, (*puppets).shake).heapOf(n)
	t.Logf("%d bytes for each of %d idle sessions, %d after a handshake", derived, n, shaken)
	if derived > 1536 || shaken > 1536 {
		t.Error("more than 1.5 KiB")
	}
	if d := shaken - derived; d < -32 || d > 32 {
		t.Errorf("a handshake leaves %d bytes more behind", d)
	}
}

// herd is a server all of whose sessions are idle.
type herd struct {
	*bareServer
	few    int   // sessions that were there first
	before int64 // the heap with those
}

// openIdle opens n sessions that all fall idle, a few at a time, since one that has
// just spoken takes several times the memory. Before them it opens a few that do not
// count, for what the server needs with any.
func openIdle(t testing.TB, n, few int, begin func(*puppets, testing.TB, *puppet) *Session) *herd {
	t.Helper()
	b := newBareServer(t, uint32(1)<<bits.Len(uint(4*n)))
	var err error
	if b.identities, err = newIdentities(b.cfg); err != nil {
		t.Fatal(err)
	}
	h := &herd{bareServer: b, few: few}
	w := b.workers[0]
	snd := sender{srv: b.Server, conn: w.conn}
	var due []*Session
	for network, open := byte(10), 0; open < few+n; network += 2 {
		openPuppetsIn(t, b, network, few, begin)
		open += few
		b.answer = func(netio.Message) {} // nobody is left to hear it
		b.clock.start = b.clock.start.Add(-30 * time.Second)
		due = w.tick(b.clock.now(), &snd, due[:0])
		b.forgetAttempts(b.clock.now())
		if open == few {
			h.before = heap()
		}
	}
	if got := b.directory.len(); got != few+n {
		t.Fatalf("%d of %d sessions are left", got, few+n)
	}
	return h
}

// heapOf returns the bytes for each of n sessions. What the directory keeps by slot was
// there before the first of them.
func (h *herd) heapOf(n int) int {
	slots := 4 * int(h.table.Capacity())
	return (int(heap()-h.before) + slots) / n
}

// shake makes a puppet's session by a handshake.
func (p *puppets) shake(t testing.TB, c *puppet) *Session {
	t.Helper()
	cfg := handshake.ClientConfig{Static: handshake.NewPrivateKey(), Server: p.PublicKey(), Params: handshake.Params{MaxDatagram: 9000}}
	for seq := range cfg.NewIDs {
		cfg.NewIDs[seq] = handshake.NewID{Seq: uint32(seq), ID: c.id(uint32(seq))}
	}
	init, err := handshake.NewInitiator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var resp []byte
	conn := sink(func(m netio.Message) { resp = append(resp, m.Buf...) })
	job := &initJob{identity: &p.identities[0], conn: conn, worker: p.workers[0], remote: c.addr(), local: benchLocal}
	copy(job.packet[:], init.Packet())
	var no Reason
	job.attempt, no = p.attempts.begin(p.now, attemptKey{init.HandshakeID(), c.addr()}, wire.Init(init.Packet()).Ephemeral(),
		source{makePrefix(c.addr().Addr(), handshakePrefixBits), true})
	if job.attempt == nil {
		t.Fatal(no)
	}
	h := handshaker{srv: p.Server, counts: p.reader.counts}
	if r := h.handle(job); r != RespAccepted {
		t.Fatal(r)
	}
	reply, err := init.Finish(resp)
	if err != nil || reply.Status != wire.StatusAccepted {
		t.Fatal(reply, err)
	}
	first := reply.NewIDs[0].ID
	c.c2s, c.s2c, c.ids[0] = reply.Secrets.C2S, reply.Secrets.S2C, puppetID{0, first}
	return p.lookup(&first)
}
