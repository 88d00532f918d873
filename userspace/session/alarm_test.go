// SPDX-License-Identifier: Apache-2.0

package session

import (
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// An authentic duplicate from elsewhere: an alarm and one CHALLENGE each PTO, to
// the current path only.
func TestThreatReplay(t *testing.T) {
	m := opened(t, 5)
	var c capture
	m.network = c.drop
	pkt := m.craft(&m.c, pingFrame(1))
	m.inject(addrA, pkt)
	c.take()
	pto := m.s.rtt.pto()
	for range 5 {
		for range 10 {
			if r := m.inject(addrX, pkt); r != ReplayDuplicate {
				t.Fatal(r)
			}
		}
		sent := c.take()
		if len(sent) != 1 || sent[0].dst != addrA {
			t.Fatalf("sent %v", sent)
		}
		cookie, n := cookieOf(m.framesTo(sent, addrA))
		if n != 1 {
			t.Fatal("no CHALLENGE")
		}
		m.inject(addrX, m.craft(&m.c, wire.AppendResponse(nil, cookie)))
		m.inject(addrA, m.craft(&m.c, wire.AppendResponse(nil, cookie)))
		m.now += pto
		m.s.Tick(m.now, &m.s.out)
		m.flush(&m.s)
		c.take()
	}
	if i := m.s.Info(); i.ForwardingAlarms != 5 || i.Moves.Started != 0 || i.Counts[AnswerElsewhere] != 5 {
		t.Errorf("%d alarms, %+v, %d answers from elsewhere", i.ForwardingAlarms, i.Moves, i.Counts[AnswerElsewhere])
	}
	m.inject(addrA, pkt) // the network's own duplicate
	if len(c.take()) != 0 {
		t.Error("alarm for a duplicate on the current path")
	}
}

// The forwarder of RFC 9000 section 9.3.3: it delivers copies from its own
// address sooner than the originals, and relays what comes back.
func TestThreatForwarding(t *testing.T) {
	m := opened(t, 9)
	m.trace = testing.Verbose()
	attacking := true
	m.network = func(f flight) []flight {
		if f.toServer && attacking {
			copied := f
			copied.src, copied.at = addrX, f.at-m.rtt/4
			return []flight{f, copied}
		}
		if !f.toServer && f.dst == addrX {
			f.dst = addrA
		}
		return []flight{f}
	}
	for range 20 {
		m.clientSend("victim")
		m.run(m.rtt / 2)
	}
	attacking = false
	m.run(m.rtt)
	m.clientSend("alone again")
	m.run(2 * m.rtt)
	if m.s.Path().Remote != addrA {
		t.Errorf("on %v", m.s.Path())
	}
	if m.s.Info().ForwardingAlarms == 0 {
		t.Error("no alarm")
	}
}
