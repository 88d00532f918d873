// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Control frames go again with a new token after a PTO, twice that and so on;
// after 6 tries the sender waits until it hears the peer, and starts again.
func TestControlTries(t *testing.T) {
	m := opened(t, 1)
	m.run(5 * time.Second)
	pto := m.s.rtt.pto()
	start := m.now
	var at []Time
	var tokens []uint64
	m.network = func(f flight) []flight {
		if !f.toServer {
			at = append(at, m.now-start)
			counter, id, _ := wire.ParseData(f.data)
			plain, _ := m.c.open(m.c.findLocal(&id), counter, f.data, nil, new(Output))
			var fr wire.Frame
			for r := wire.NewFrameReader(plain); r.Next(&fr); {
				if fr.Type == wire.FramePing {
					if slices.Contains(tokens, fr.Token) {
						t.Error("a token twice")
					}
					tokens = append(tokens, fr.Token)
				}
			}
		}
		return nil
	}
	m.s.Ping(m.now, &m.s.out)
	m.flush(&m.s)
	m.run(20 * time.Second)
	want := []Time{0, pto, 3 * pto, 7 * pto, 15 * pto, 31 * pto}
	if !slices.Equal(at, want) {
		t.Errorf("sent at %v, want %v", at, want)
	}
	at, start = nil, m.now
	m.s.Receive(m.now, m.s.Path(), m.craft(&m.c, wire.AppendDatagram(nil, nil)), &m.s.out)
	m.flush(&m.s)
	if !slices.Equal(at, []Time{0}) {
		t.Errorf("after a sign of life: sent at %v", at)
	}
}

// NEW_IDs arrive in spite of loss, with every lower one that is not
// acknowledged: at the latest with the first try that is not lost, and the longest
// pause between two is 16 PTO.
func TestNewIDsAreReliable(t *testing.T) {
	for seed := range uint64(200) {
		m := opened(t, seed)
		m.network = func(f flight) []flight {
			if m.rng.IntN(2) == 0 {
				return nil
			}
			return []flight{f}
		}
		for i := range 20 {
			m.move(uint32(2+i), netip.AddrPortFrom(addrB.Addr(), uint16(1000+i)))
			for range 5 {
				m.clientSend("x")
				m.serverSend("x")
				m.run(500 * time.Millisecond)
			}
		}
		m.run(10 * time.Second)
		m.network = nil
		m.talk(17 * max(m.c.Info().PTO, m.s.Info().PTO, time.Second))
		ci, si := m.c.Info(), m.s.Info()
		if ci.SpareRemoteIDs < 2 || si.SpareRemoteIDs < 2 || ci.Counts[ProtocolError]+si.Counts[ProtocolError] != 0 {
			t.Fatalf("seed %d: %v and %v, spare ids %d and %d", seed, ci.State, si.State, ci.SpareRemoteIDs, si.SpareRemoteIDs)
		}
	}
}

// The PONG of an earlier try acknowledges too, and every PONG measures.
func TestLatePong(t *testing.T) {
	m := opened(t, 1)
	m.run(5 * time.Second)
	slow := 3 * m.c.rtt.pto()
	m.network = func(f flight) []flight {
		f.at = m.now + slow/2
		return []flight{f}
	}
	m.c.Ping(m.now, &m.c.out)
	m.flush(&m.c)
	before := m.c.Info().SRTT
	m.run(slow)
	m.run(1)
	if m.c.pending() {
		t.Error("not acknowledged")
	}
	if m.c.Info().SRTT <= before {
		t.Error("no sample")
	}
	if n := m.c.Info().Counts[PongUnknown]; n != 0 {
		t.Errorf("%d unknown", n)
	}
	// A token never sent says nothing.
	srtt := m.c.Info().SRTT
	m.c.Receive(m.now, m.c.Path(), m.craft(&m.s, wire.AppendPong(nil, 42)), &m.c.out)
	if i := m.c.Info(); i.Counts[PongUnknown] != 1 || i.SRTT != srtt {
		t.Error("PONG of a token never sent")
	}
}

func TestRTT(t *testing.T) {
	var r rtt
	if r.pto() != time.Second {
		t.Errorf("first PTO %v", r.pto())
	}
	const ms = time.Millisecond
	r.sample(100 * ms)
	if r.srtt() != 100*ms || r.variation != uint32(50*ms) || r.pto() != 300*ms {
		t.Errorf("after one sample %+v, PTO %v", r, r.pto())
	}
	r.sample(180 * ms) // RFC 9002: var = 3/4*50 + 1/4*80, srtt = 7/8*100 + 1/8*180
	if r.variation != uint32(57500*time.Microsecond) || r.srtt() != 110*ms {
		t.Errorf("after two %+v", r)
	}
	for range 1000 {
		r.sample(20 * ms)
	}
	if got := r.pto(); got < 30*ms || got > 31*ms {
		t.Errorf("PTO %v, want srtt + 10 ms", got)
	}
}

// A PONG that somebody on the path kept makes nothing wait as long as he likes.
func TestDelayedPong(t *testing.T) {
	const most = 5 * maxSample
	m := opened(t, 1)
	m.clientSend("x")
	m.run(time.Second)
	var kept []byte
	m.network = func(f flight) []flight {
		if f.toServer && kept == nil {
			kept = f.data
			return nil
		}
		return []flight{f}
	}
	m.s.Ping(m.now, &m.s.out)
	m.flush(&m.s)
	m.run(m.rtt)
	for range 18 {
		m.clientSend("x")
		m.run(5 * time.Second)
	}
	srtt := m.s.Info().SRTT
	if r := m.inject(addrA, kept); r != Delivered {
		t.Fatalf("the packet with the PONG: %v", r)
	}
	if i := m.s.Info(); i.SRTT <= srtt || i.PTO > most {
		t.Errorf("srtt %v, PTO %v", i.SRTT, i.PTO)
	}
	m.rebind(addrB)
	m.clientSend("moved")
	m.run(m.rtt/2 + 1)
	if got := m.s.candidates[0].deadline - m.now; got > 3*most {
		t.Errorf("a candidate may take %v", got)
	}
	m.run(m.rtt)
	m.c.Close(m.now, wire.CloseDone, "", &m.c.out)
	m.flush(&m.c)
	m.run(m.rtt/2 + 3*most + 1)
	if !m.s.ended {
		at, _ := m.s.Deadline()
		t.Errorf("the ids of a closed session stay reserved for another %v", at-m.now)
	}
}

// The client learns where it is seen after a move.
func TestObserved(t *testing.T) {
	m := opened(t, 1)
	m.move(2, addrC)
	m.run(time.Second)
	if got := m.c.Info().Observed; got != addrC {
		t.Errorf("observed %v", got)
	}
	m.c.wants(t, "move", EventObserved, 1)
}

// The acknowledgement of what was told on one path says nothing of the next.
func TestObservedAgain(t *testing.T) {
	m := opened(t, 1)
	var tokens []uint64
	for _, addr := range []netip.AddrPort{addrB, addrC} {
		m.s.enter(Path{Remote: addr, Local: serverAddr})
		m.s.settled(m.now, &m.s.out)
		tokens = append(tokens, m.s.ctl.pings[len(m.s.ctl.pings)-1].token)
	}
	if m.s.pong(m.now, tokens[0]); !m.s.ctl.observe {
		t.Error("the client was not told of its second address")
	}
	if m.s.pong(m.now, tokens[1]); m.s.ctl.observe {
		t.Error("not acknowledged")
	}
	if n := m.s.Info().Counts[PongUnknown]; n != 0 {
		t.Errorf("%d unknown tokens", n)
	}
}

// Extensions are sent now and then, and skipped.
func TestGrease(t *testing.T) {
	m := opened(t, 1)
	greased := 0
	bodies := map[int]int{}
	m.network = func(f flight) []flight {
		if f.toServer {
			counter, id, _ := wire.ParseData(f.data)
			plain, _ := m.s.open(m.s.findLocal(&id), counter, slices.Clone(f.data), nil, new(Output))
			var fr wire.Frame
			for r := wire.NewFrameReader(plain); r.Next(&fr); {
				if fr.Type.Extension() {
					greased++
					bodies[len(fr.Data)]++
				}
			}
		}
		return []flight{f}
	}
	for range 300 {
		m.c.Ping(m.now, &m.c.out)
		m.flush(&m.c)
		m.run(m.rtt)
	}
	if greased == 0 || greased > 60 {
		t.Errorf("%d of 300 packets", greased)
	}
	if len(bodies) < 4 || bodies[0] == greased {
		t.Errorf("their bodies by length: %v", bodies)
	}
	if m.s.State() != StateOpen {
		t.Error("closed")
	}
}
