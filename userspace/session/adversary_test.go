// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// adversary owns the network: it reads, drops, delays, duplicates and replays
// every packet, flips bits, forges sources, and relays what comes to addresses of
// its own. All that it cannot do is forge the AEAD.
type adversary struct {
	*sim
	seen []flight
	own  []netip.AddrPort
	old  []netip.AddrPort // where the victim has been
	loss float64
}

func (a *adversary) chance(p float64) bool { return a.rng.Float64() < p }

func (a *adversary) address() netip.AddrPort {
	if len(a.old) > 0 && a.chance(0.3) {
		return a.old[a.rng.IntN(len(a.old))]
	}
	return a.own[a.rng.IntN(len(a.own))]
}

func (a *adversary) later(f flight) flight {
	f.at = a.now + time.Duration(a.rng.Int64N(int64(2*a.rtt)))
	return f
}

func (a *adversary) network(f flight) (out []flight) {
	a.seen = append(a.seen, f)
	if !a.chance(a.loss) {
		if a.chance(0.2) {
			out = append(out, a.later(f)) // reordered
		} else {
			out = append(out, f)
		}
	}
	if a.chance(0.1) {
		out = append(out, a.later(f)) // duplicated
	}
	if a.chance(0.3) { // forwarded, perhaps sooner than the original
		g := a.later(f)
		if f.toServer {
			g.src = a.address()
		} else if a.chance(0.5) {
			g.dst = a.victim()
		}
		out = append(out, g)
	}
	if !f.toServer && slices.Contains(a.own, f.dst) && a.chance(0.7) {
		f.dst = a.victim() // relayed
		out = append(out, f)
	}
	if a.chance(0.1) { // replayed
		g := a.later(a.seen[a.rng.IntN(len(a.seen))])
		if g.toServer && a.chance(0.7) {
			g.src = a.address()
		}
		out = append(out, g)
	}
	if a.chance(0.1) { // forged
		g := a.later(f)
		g.data = slices.Clone(g.data)
		g.data[a.rng.IntN(len(g.data))] ^= byte(1 + a.rng.IntN(255))
		out = append(out, g)
	}
	return out
}

func (a *adversary) victim() netip.AddrPort { return a.socket[a.c.Path().Socket] }

// TestAdversary is the property test of the path machine: random moves, data and
// pauses under an adversary that owns the network. The simulation itself checks
// the 3x ledger and the number of live ids at every step.
func TestAdversary(t *testing.T) {
	runs := uint64(1000)
	if testing.Short() || testutil.Race { // a session has one thread
		runs = 200
	}
	var moves, alarms, reverts, backoffs uint64
	for seed := range runs {
		m := opened(t, 1000+seed)
		a := &adversary{sim: m, loss: m.rng.Float64() * 0.6}
		for i := range 4 {
			a.own = append(a.own, netip.AddrPortFrom(addrX.Addr(), uint16(6000+i)))
		}
		m.network = a.network
		socket := uint32(2)
		place := 0
		fresh := func() netip.AddrPort {
			place++
			ip := addrB.Addr()
			if place%3 == 0 {
				ip = addrC.Addr()
			}
			return netip.AddrPortFrom(ip, uint16(50000+place))
		}
		for range 10 + m.rng.IntN(60) {
			switch m.rng.IntN(10) {
			case 0:
				a.old = append(a.old, a.victim())
				m.move(socket, fresh())
				socket++
			case 1:
				a.old = append(a.old, a.victim())
				m.rebind(fresh())
			case 2, 3, 4:
				m.clientSend("up")
			case 5, 6:
				m.serverSend("down")
			case 7:
				m.serverSend(strings.Repeat("large", 500))
			case 8:
				m.c.Ping(m.now, &m.c.out)
				m.flush(&m.c)
			}
			m.run(time.Duration(m.rng.Int64N(int64(3 * m.rtt))))
			if n := len(m.s.remote) + len(m.c.remote); n > 40 {
				t.Fatalf("seed %d: %d ids held", seed, n)
			}
		}
		// The adversary stops; what it still has on the wire is gone.
		m.network, m.wire = nil, nil
		m.run(4 * m.rtt)
		victim := a.victim()
		if m.s.backedOff(m.now, Path{Remote: victim}) {
			// It has let the victim's old address answer for it: a relay on the path can
			// do that. The back-off ends by itself.
			backoffs++
			m.run(maxBackoff)
		}
		m.clientSend("alone at last")
		m.run(2 * m.rtt)
		if got := m.s.Path().Remote; got != victim {
			t.Fatalf("seed %d: victim at %v, server on %v: %+v", seed, victim, got, m.s.Info())
		}
		m.forget()
		m.serverSend("for you")
		m.clientSend("for you")
		m.run(m.rtt)
		if !slices.Contains(m.c.got, "for you") || !slices.Contains(m.s.got, "for you") {
			t.Fatalf("seed %d: got %q and %q\n%+v\n%+v", seed, m.c.got, m.s.got, m.c.Info(), m.s.Info())
		}
		i := m.s.Info()
		moves += i.Moves.Committed
		alarms += i.ForwardingAlarms
		reverts += i.Moves.Reverted
		if n := i.Counts[ProtocolError] + m.c.Info().Counts[ProtocolError]; n != 0 {
			t.Fatalf("seed %d: %d protocol errors between two honest ends", seed, n)
		}
		// Nothing leaks: the ids come back to three, and all go at the end.
		m.run(20 * time.Second)
		m.clientSend("x")
		m.serverSend("x")
		m.run(20 * time.Second)
		if c, s := m.c.Info(), m.s.Info(); c.LocalIDs > maxLive || s.LocalIDs > maxLive || c.SpareRemoteIDs < 1 || s.SpareRemoteIDs < 1 {
			t.Fatalf("seed %d: live %d and %d, spare %d and %d", seed, c.LocalIDs, s.LocalIDs, c.SpareRemoteIDs, s.SpareRemoteIDs)
		}
		if n := len(m.s.candidates) + len(m.s.departures) + len(m.c.finder.left); n != 0 {
			t.Fatalf("seed %d: %d paths left over", seed, n)
		}
		m.c.Close(m.now, 0, "", &m.c.out)
		m.flush(&m.c)
		m.run(time.Minute)
		if !m.c.ended || !m.s.ended {
			t.Fatalf("seed %d: not ended", seed)
		}
	}
	t.Logf("%d runs: %d moves, %d alarms, %d reverts, %d ended in a back-off", runs, moves, alarms, reverts, backoffs)
	if moves == 0 || alarms == 0 || reverts == 0 {
		t.Error("the adversary was idle")
	}
}

// snapshot prints all state of a Session but its counters and its scratch.
func snapshot(s *Session) string {
	var b strings.Builder
	dump(&b, reflect.ValueOf(s).Elem(), "")
	return b.String()
}

func dump(b *strings.Builder, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[netip.AddrPort]() {
			fmt.Fprintf(b, "%s=%v\n", path, v)
			return
		}
		for i := range v.NumField() {
			switch name := v.Type().Field(i).Name; name {
			case "counts", "nonce", "scratch", "source", "ids":
			default:
				dump(b, v.Field(i), path+"."+name)
			}
		}
	case reflect.Pointer:
		if v.IsNil() {
			fmt.Fprintf(b, "%s=nil\n", path)
			return
		}
		dump(b, v.Elem(), path)
	case reflect.Interface:
		fmt.Fprintf(b, "%s set: %v\n", path, !v.IsNil())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			fmt.Fprintf(b, "%s=%x\n", path, v)
			return
		}
		fmt.Fprintf(b, "%s: %d\n", path, v.Len())
		for i := range v.Len() {
			dump(b, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	default:
		fmt.Fprintf(b, "%s=%v\n", path, v)
	}
}

// Unauthenticated bytes change nothing but counters, in whatever state.
func TestForgeriesChangeNothing(t *testing.T) {
	check := func(m *sim, what string) {
		t.Helper()
		base := m.craft(&m.c, pingFrame(1))
		deep := snapshot(m.s.Session)
		forged := func(b []byte) {
			from := []netip.AddrPort{addrA, addrB, addrX}[m.rng.IntN(3)]
			var out Output
			r := m.s.Receive(m.now, Path{Remote: from}, b, &out)
			switch r {
			case Malformed, UnknownID, CounterLimit, AuthFailed, AfterClose:
			default:
				t.Fatalf("%s: a forgery is %v", what, r)
			}
			if len(out.Packets)+len(out.Datagrams)+len(out.Events)+len(out.Commits) != 0 {
				t.Fatalf("%s: a forgery made %+v", what, out)
			}
		}
		for n := range len(base) {
			for bit := range 8 {
				b := slices.Clone(base)
				b[n] ^= 1 << bit
				forged(b)
			}
			forged(slices.Clone(base[:n]))
		}
		forged(append(slices.Clone(base), 0))
		for range 500 {
			b := make([]byte, m.rng.IntN(200))
			fill(m.rng, b)
			if len(b) > 24 && m.rng.IntN(2) == 0 {
				copy(b, base[:24])
			}
			forged(b)
		}
		if after := snapshot(m.s.Session); after != deep {
			t.Errorf("%s: state changed:\n%s\n%s", what, deep, after)
		}
	}
	m := newSim(t, 20)
	check(m, "unconfirmed")
	m = opened(t, 20)
	check(m, "open")
	m.run(30 * time.Second)
	check(m, "idle, keys released")
	b := beginMove(t)
	check(b.sim, "in validation")
	b.answer(addrB, wire.AppendResponse, b.cookieB)
	check(b.sim, "after a switch")
	m = opened(t, 20)
	m.s.Close(m.now, 0, "", &m.s.out)
	m.flush(&m.s)
	check(m, "closing")
}
