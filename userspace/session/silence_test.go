// SPDX-License-Identifier: Apache-2.0

package session

import (
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func cut(flight) []flight { return nil }

// deaf lets nothing through to the client.
func deaf(f flight) []flight {
	if f.toServer {
		return []flight{f}
	}
	return nil
}

// A path that died, in both directions or in one, is noticed within four times
// the patience of the first datagram that is not answered.
func TestSilence(t *testing.T) {
	for name, network := range map[string]func(flight) []flight{"cut": cut, "deaf": deaf} {
		m := opened(t, 1)
		m.talk(5 * time.Second)
		m.forget()
		m.network = network
		m.run(10 * time.Second)
		m.c.wants(t, name+": nothing was sent", EventSilent, 0)
		patience := m.c.patience()
		if patience != minSilence {
			t.Fatalf("patience %v", patience)
		}
		sent := m.c.Info().Sent.Packets
		m.clientSend("x")
		m.run(4 * patience)
		m.c.wants(t, name+": too early", EventSilent, 0)
		m.run(1)
		m.c.wants(t, name, EventSilent, 1)
		if !m.c.Info().Silent {
			t.Error("Info does not say so")
		}
		if got := m.c.Info().Sent.Packets - sent; got != 1+silentPings {
			t.Errorf("%s: %d packets", name, got)
		}
		// It tells once, and does not go on asking.
		for range 50 {
			m.clientSend("x")
			m.run(100 * time.Millisecond)
		}
		m.c.wants(t, name+": later", EventSilent, 1)
		if got := m.c.Info().Sent.Packets - sent; got != 51+silentPings {
			t.Errorf("%s: %d packets later", name, got)
		}
		// The path is back.
		m.network = nil
		m.serverSend("x")
		m.run(time.Second)
		if m.c.Info().Silent {
			t.Errorf("%s: still silent", name)
		}
		m.network = network
		m.clientSend("x")
		m.run(5 * time.Second)
		m.c.wants(t, name+": again", EventSilent, 2)
	}
}

// A silence is of one path: after a move, or a race, the next one is told too.
func TestSilenceAfterMove(t *testing.T) {
	m := opened(t, 1)
	m.network = cut
	m.clientSend("x")
	m.run(5 * time.Second)
	m.c.wants(t, "first path", EventSilent, 1)
	m.move(2, addrB)
	m.run(4*initialPTO + 1)
	m.c.wants(t, "second path", EventSilent, 2)
	if at := m.c.event(EventSilent).Path; at.Socket != 1 || m.c.events[len(m.c.events)-1].Path.Socket != 2 {
		t.Errorf("%v", m.c.events)
	}
}

// An application that only sends is not silence: the PING that asks is answered,
// and a few of them lost are no reason either.
func TestOneWayTraffic(t *testing.T) {
	m := opened(t, 1)
	lose := 0
	m.network = func(f flight) []flight {
		if !f.toServer && lose > 0 {
			lose--
			return nil
		}
		return []flight{f}
	}
	sent := m.c.Info().Sent.Packets
	for i := range 300 {
		if i%50 == 0 {
			lose = 2
		}
		m.clientSend("x")
		m.run(100 * time.Millisecond)
	}
	m.c.wants(t, "one way", EventSilent, 0)
	if pings := m.c.Info().Sent.Packets - sent - 300; pings < 30 || pings > 150 {
		t.Errorf("%d PINGs in 30 s", pings)
	}
	// Receiving alone asks for nothing; nor do the answers that we send.
	sent = m.c.Info().Sent.Packets
	for range 100 {
		m.serverSend("x")
		m.run(100 * time.Millisecond)
	}
	if got := m.c.Info().Sent.Packets - sent; got > 1 {
		t.Errorf("%d packets of one that only receives", got)
	}
	m.run(time.Second)
	m.network = deaf
	m.inject(addrA, m.craft(&m.c, pingFrame(1)))
	m.clientGets(m.craft(&m.s, pingFrame(1)))
	m.run(5 * time.Second)
	m.c.wants(t, "a PONG has no answer", EventSilent, 0)
}

// A caller that comes late finds the questions one after the other, not at once.
func TestSilenceLateTick(t *testing.T) {
	m := opened(t, 1)
	m.run(time.Second)
	m.network = cut
	m.clientSend("x")
	sent := m.c.Info().Sent.Packets
	m.now += clockJump - time.Second
	for range 5 {
		m.c.Tick(m.now, &m.c.out)
		m.flush(&m.c)
	}
	if got := m.c.Info().Sent.Packets - sent; got != 1 || m.c.count(EventSilent) != 0 {
		t.Errorf("%d PINGs at once, %v", got, m.c.events)
	}
	m.run(3*m.c.patience() + 1)
	m.c.wants(t, "late", EventSilent, 1)
	// After a pause the count begins anew.
	m.c.Resume(m.now, &m.c.out)
	m.flush(&m.c)
	if m.c.Info().Silent {
		t.Error("still silent after Resume")
	}
	m.run(5 * time.Second)
	m.c.wants(t, "after Resume", EventSilent, 2)
}

// A machine that slept finds everything due at once, and does each once.
func TestClockJump(t *testing.T) {
	m := opened(t, 1)
	m.c.options.keepalive, m.c.idle, m.s.idle = 25*time.Second, 24*time.Hour, 24*time.Hour
	m.talk(3 * time.Second)
	m.network = cut
	m.move(2, addrB) // under way as it falls asleep
	m.c.Race(m.now, []Path{{Socket: 3, Remote: serverAddr}}, &m.c.out)
	m.clientSend("x")
	m.wire = nil
	m.forget()
	m.now += 8 * time.Hour
	sent := m.c.Info().Sent.Packets
	m.c.Tick(m.now, &m.c.out)
	m.flush(&m.c)
	if got := m.c.Info().Sent.Packets - sent; got < 1 || got > 4 {
		t.Errorf("%d packets at once", got)
	}
	m.c.wants(t, "woken", EventClockJump, 1)
	m.c.wants(t, "woken", EventSilent, 0)
	m.c.wants(t, "woken", EventClosed, 0)
	m.c.wants(t, "a race of yesterday", EventRaceLost, 0)
	m.c.wants(t, "a race of yesterday", EventPathReleased, 2)
	// The server slept not: it has the session still, its own timers long done.
	m.network = nil
	m.s.Tick(m.now, &m.s.out)
	m.flush(&m.s)
	m.run(2 * time.Second)
	m.talk(5 * time.Second)
	m.c.wants(t, "awake", EventSilent, 0)
	// The clock stood still: the caller says so.
	m.forget()
	id := m.c.rid.ID
	if err := m.c.Resume(m.now, &m.c.out); err != nil {
		t.Fatal(err)
	}
	m.flush(&m.c)
	m.c.wants(t, "resumed", EventClockJump, 1)
	if m.c.rid.ID == id {
		t.Error("it goes on with the id from before")
	}
	m.talk(2 * time.Second)
	if err := m.s.Resume(m.now, &m.s.out); err != ErrNotClient {
		t.Error(err)
	}
	// A late Tick is no jump, and a server has none.
	m.forget()
	m.clientSend("x")
	m.now += 3 * time.Second
	m.c.Tick(m.now, &m.c.out)
	m.now += time.Minute
	m.s.Tick(m.now, &m.s.out)
	m.flush(&m.c)
	m.flush(&m.s)
	m.c.wants(t, "late", EventClockJump, 0)
	m.s.wants(t, "server", EventClockJump, 0)
	// Beyond the idle timeout there is nothing to come back to.
	m = opened(t, 1)
	m.clientSend("x")
	m.run(time.Second)
	m.now += 25 * time.Hour
	m.c.Tick(m.now, &m.c.out)
	m.flush(&m.c)
	if m.c.State() != StateClosing || m.c.farewell.code != wire.CloseIdle {
		t.Errorf("after the idle timeout: %v", m.c.State())
	}
	if err := m.c.Resume(m.now, &m.c.out); err != ErrClosed {
		t.Error(err)
	}
	if err := newSim(t, 1).c.Resume(0, &m.c.out); err != ErrNotConfirmed {
		t.Error(err)
	}
}

// A client that only listens finds out by itself that a flow has stopped because of
// its path; a flow that was over costs one PING, and answers to questions none.
func TestSilenceOfListener(t *testing.T) {
	m := opened(t, 1)
	m.talk(5 * time.Second)
	m.forget()
	for range 3 { // question and answer
		m.clientSend("x")
		m.serverSend("x")
		m.run(2 * time.Second)
	}
	sent := m.c.Info().Sent.Packets
	for range 20 {
		m.serverSend("x")
		m.run(100 * time.Millisecond)
	}
	if got := m.c.Info().Sent.Packets - sent; got != 0 {
		t.Errorf("%d packets during the flow", got)
	}
	m.run(10 * time.Second)
	if got := m.c.Info().Sent.Packets - sent; got != 1 {
		t.Errorf("%d packets after a flow that is over, want 1", got)
	}
	m.c.wants(t, "the flow is over", EventSilent, 0)
	m.serverSend("x")
	m.serverSend("x")
	m.run(lull / 2)
	m.network = cut
	m.run(lull + time.Duration(silentPings)*m.c.patience())
	m.c.wants(t, "the path is dead", EventSilent, 1)
}

// On a long way the lull of a flow can come before the end of the wait for a PONG:
// the simulation checks that the caller is told to look at its timer again.
func TestLullBeforePong(t *testing.T) {
	m := opened(t, 1)
	m.rtt = 2 * time.Second
	for range 5 {
		m.c.Ping(m.now, &m.c.out)
		m.flush(&m.c)
		m.run(10 * time.Second)
	}
	if pto := m.c.Info().PTO; pto <= 2*lull {
		t.Fatalf("PTO %v", pto)
	}
	for range flowing + 1 {
		m.serverSend("down")
	}
	m.wire[flowing].at += 1 // the last of them comes after the PING has gone
	m.run(m.rtt/2 + 1)
	m.c.Ping(m.now, &m.c.out)
	m.flush(&m.c)
	m.run(m.rtt)
	if len(m.c.got) != flowing+1 {
		t.Fatalf("got %q", m.c.got)
	}
}
