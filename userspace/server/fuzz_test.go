// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// FuzzPacket gives a reader arbitrary bytes from a client's own address: each
// packet has one reason, and no slot of the client's session changes, nor does
// the session end.
func FuzzPacket(f *testing.F) {
	srv := listen(f, func(c *Config) {
		c.Workers, c.TableSlots = 1, maps.MinSlots
		c.Limits.PrefixRate = 1 << 20
		c.Limits.PrefixBurst = 1 << 20
	})
	c := dial(f, srv, "127.0.0.1", nil)
	s := accept(f, srv)
	init, _ := newAttempt(f, srv, nil)
	f.Add([]byte(nil))
	f.Add([]byte(init.Packet()))
	f.Add(wire.AppendRetry(nil, wire.ID{1}, wire.Cookie{2}))
	f.Add(wire.AppendRespHeader(nil, wire.ID{1}))
	f.Add(wire.AppendVersionsPacket(nil, wire.ID{1}, ourVersions))
	version := append([]byte(nil), init.Packet()...)
	version[7] = 9
	f.Add(version)
	f.Add(c.lastPacket())
	forged := make([]byte, 60)
	wire.PutDataHeader(forged, 1<<40, s.Info().LocalID)
	f.Add(forged)
	for b := range 256 {
		f.Add([]byte{byte(b), 0, 0, 0, 0, 0, 0, 1})
	}
	r := newReader(srv.workers[0], 0, srv.workers[0].conn, srv.newCounters())
	before := slots(srv)
	f.Fuzz(func(t *testing.T, pkt []byte) {
		m := netio.Message{Buf: pkt, N: len(pkt), Remote: c.sockets[0].conn.LocalAddr(), Local: c.sockets[0].to}
		reason := r.judge(srv.clock.now(), &m)
		if reason >= numReasons || reason == notCounted && (len(pkt) == 0 || pkt[0] != wire.TypeInit) {
			t.Fatalf("reason %d for %x", reason, pkt)
		}
		r.snd.out.Reset()
		r.snd.msgs, r.answers = r.snd.msgs[:0], r.answers[:0]
		after := slots(srv)
		for id, slot := range before {
			if after[id] != slot {
				t.Fatalf("slot %+v became %+v by %x", slot, after[id], pkt)
			}
		}
		if err := s.Err(); err != nil {
			t.Fatalf("the session ended with %v by %x", err, pkt)
		}
	})
}
