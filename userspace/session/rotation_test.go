// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Leave takes both directions of either end's session to new ids, though nobody
// says anything, and though the peer is ahead: it would not follow to an id below
// its own.
func TestLeave(t *testing.T) {
	for _, who := range []Role{Client, Server} {
		for ahead := range 3 {
			m := opened(t, 1)
			a, b := &m.c, &m.s
			if who == Server {
				a, b = b, a
			}
			for range ahead {
				b.rotate()
			}
			b.Send(m.now, []byte("x"), &b.out)
			m.flush(b)
			m.run(time.Second)
			before := a.Info()
			if err := a.Leave(m.now, before.LocalID, &a.out); err != nil {
				t.Fatal(err)
			}
			m.flush(a)
			m.run(time.Second)
			if i := a.Info(); i.RemoteSeq <= before.RemoteSeq || i.LocalSeq <= before.LocalSeq {
				t.Errorf("%v, peer ahead by %d: sends on %d after %d, receives on %d after %d",
					who, ahead, i.RemoteSeq, before.RemoteSeq, i.LocalSeq, before.LocalSeq)
			}
			m.run(5 * time.Second)
			if c, s := m.c.Info(), m.s.Info(); c.SpareRemoteIDs != 2 || s.SpareRemoteIDs != 2 || c.LocalIDs != 3 || s.LocalIDs != 3 {
				t.Errorf("%v, peer ahead by %d: spare %d and %d, live %d and %d", who, ahead, c.SpareRemoteIDs, s.SpareRemoteIDs, c.LocalIDs, s.LocalIDs)
			}
		}
	}
	m := newSim(t, 1)
	if err := m.s.Leave(0, m.s.Info().LocalID, &m.s.out); !errors.Is(err, ErrNotConfirmed) || len(m.s.out.Packets) > 0 {
		t.Errorf("unconfirmed: %v, %d packets", err, len(m.s.out.Packets))
	}
	m = opened(t, 1)
	m.s.Close(m.now, wire.CloseDone, "", &m.s.out)
	if err := m.s.Leave(m.now, m.s.Info().LocalID, &m.s.out); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// One Leave of an id is enough, and of an id that the peer does not send on there is none.
func TestLeaveOnce(t *testing.T) {
	m := opened(t, 1)
	id := m.s.Info().LocalID
	for range 3 {
		m.s.Leave(m.now, id, &m.s.out)
		m.s.Leave(m.now, m.s.local[1].ID, &m.s.out)
	}
	if n := len(m.s.out.Packets); n != 1 || m.s.rid.Seq != 1 {
		t.Errorf("%d packets, sending on %d", n, m.s.rid.Seq)
	}
	m.flush(&m.s)
	m.run(time.Second)
	m.s.Leave(m.now, id, &m.s.out)
	if n := len(m.s.out.Packets); n != 0 || m.s.pathLocal.Seq != 1 {
		t.Errorf("%d packets, receiving on %d", n, m.s.pathLocal.Seq)
	}
}

// The last unused id is a move's: an end waits for another one, though not for ever.
func TestLeaveWaits(t *testing.T) {
	for _, who := range []Role{Client, Server} {
		for _, issued := range []bool{true, false} {
			m := opened(t, 1)
			waits, other := &m.c, &m.s
			if who == Server {
				waits, other = other, waits
			}
			waits.remote[2].keep(Path{Remote: addrX}) // a probe's, of whose answer the issuer never heard
			if err := m.s.Leave(m.now, m.s.pathLocal.ID, &m.s.out); err != nil {
				t.Fatal(err)
			}
			m.flush(&m.s)
			m.run(time.Second)
			if waits.rid.Seq != 0 || waits.spare(Path{Remote: addrB}) != waits.remote[1] {
				t.Fatalf("the %v spent its last unused id", who)
			}
			if issued {
				other.issue(m.now, 1)
				other.Ping(m.now, &other.out)
				m.flush(other)
			} else {
				m.run(4 * time.Second)
				m.clientSend("up")
				m.serverSend("down")
			}
			m.run(time.Second)
			if waits.rid.Seq == 0 || m.s.pathLocal.Seq == 0 {
				t.Errorf("the %v waits for ever (%v): it sends on %d, the client on %d", who, issued, waits.rid.Seq, m.s.pathLocal.Seq)
			}
			m.talk(time.Second)
			if c, s := m.c.Info(), m.s.Info(); c.SpareRemoteIDs != 2 || s.SpareRemoteIDs != 2 || m.c.owed != nil || m.s.owed != nil {
				t.Errorf("the %v: spare %d and %d, owed %v and %v", who, c.SpareRemoteIDs, s.SpareRemoteIDs, m.c.owed, m.s.owed)
			}
		}
	}
}

// Whoever sees each new id and floods it at once keeps a session changing ids, but not
// faster than ids retire: an end has at most 8, each for a second at least. Nothing is
// lost by that, and two are unused again as soon as he stops.
func TestLeaveRate(t *testing.T) {
	for _, rtt := range []time.Duration{time.Millisecond, 40 * time.Millisecond, 300 * time.Millisecond} {
		m := opened(t, 1)
		m.rtt = rtt
		m.talk(5 * time.Second)
		m.forget()
		first, packets := m.c.Info(), m.s.Info().Sent.Packets
		const floods = 60 * time.Second
		sent := 0
		for until := m.now + floods; m.now < until; m.run(5 * time.Millisecond) {
			m.s.Leave(m.now, m.s.Info().LocalID, &m.s.out)
			m.flush(&m.s)
			if sent++; sent%10 == 0 {
				m.clientSend("up")
				m.serverSend("down")
			}
		}
		m.run(time.Second)
		c, s := m.c.Info(), m.s.Info()
		ids, most := c.RemoteSeq-first.RemoteSeq, uint32(maxLive*floods/minRetire)
		t.Logf("%v: %d ids in %v, with %d packets of the server for %d datagrams", rtt, ids, floods, s.Sent.Packets-packets, len(m.c.got))
		if ids == 0 || ids > most || s.RemoteSeq-first.LocalSeq > most {
			t.Errorf("%v: the client went %d ids on, the server %d, more than %d", rtt, ids, s.RemoteSeq-first.LocalSeq, most)
		}
		if want := sent / 10; len(m.c.got) != want || len(m.s.got) != want {
			t.Errorf("%v: %d and %d of %d datagrams came", rtt, len(m.c.got), len(m.s.got), want)
		}
		m.talk(5 * time.Second)
		if c, s := m.c.Info(), m.s.Info(); c.SpareRemoteIDs != 2 || s.SpareRemoteIDs != 2 {
			t.Errorf("%v: %d and %d spare ids", rtt, c.SpareRemoteIDs, s.SpareRemoteIDs)
		}
	}
}
