// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSteady runs two simulations of one seed side by side, under an adversary,
// with moves, rekeys and pauses. One takes plainDatagram's way wherever it is open,
// the other one never: both must do the same at every step.
func TestSteady(t *testing.T) {
	runs := uint64(100)
	if testing.Short() {
		runs = 20
	}
	quick, packets := 0, uint64(0)
	for seed := range runs {
		a, b := newLife(t, seed, false), newLife(t, seed, true)
		for step := range 60 {
			what := a.step()
			if other := b.step(); other != what {
				t.Fatalf("seed %d, step %d: %s and %s", seed, step, what, other)
			}
			if d := diff(a.view(), b.view()); d != "" {
				t.Fatalf("seed %d, step %d (%s): the shortcut makes a difference:\n%s", seed, step, what, d)
			}
			a.forget()
			b.forget()
		}
		if b.quick > 0 {
			t.Fatal("the slow one took the shortcut")
		}
		quick += a.quick
		packets += a.c.received.Packets + a.s.received.Packets
	}
	t.Logf("%d of %d packets by the shortcut", quick, packets)
	if quick < int(packets/10) {
		t.Error("too few for the test to mean much")
	}
}

// life is a simulated session with things happening to it at random.
type life struct {
	*adversary
	socket uint32
	place  int
}

func newLife(t *testing.T, seed uint64, slow bool) *life {
	m := opened(t, 5000+seed)
	m.slow, m.quick = slow, 0
	l := &life{adversary: &adversary{sim: m, loss: m.rng.Float64() * 0.2}, socket: 2}
	for i := range 4 {
		l.own = append(l.own, netip.AddrPortFrom(addrX.Addr(), uint16(6000+i)))
	}
	l.server = append(l.server, serverAddr2)
	return l
}

// fresh is a new address of the client.
func (l *life) fresh() netip.AddrPort {
	l.place++
	return netip.AddrPortFrom([]netip.Addr{addrB.Addr(), addrC.Addr()}[l.place%2], uint16(50000+l.place))
}

// step lets one thing happen and says what.
func (l *life) step() (what string) {
	l.sim.network = l.adversary.network
	if l.chance(0.5) {
		l.sim.network = nil
	}
	pause := time.Duration(l.rng.Int64N(int64(3 * l.rtt)))
	switch n := l.rng.IntN(24); n {
	case 0:
		what = "move"
		if l.c.State() == StateOpen {
			l.old = append(l.old, l.victim())
			l.move(l.socket, l.fresh())
			l.socket++
		}
	case 1:
		what = "rebind"
		l.old = append(l.old, l.victim())
		l.rebind(l.fresh())
	case 2:
		what = "rekey"
		l.c.Rekey(l.now, &l.c.out)
		l.flush(&l.c)
	case 3:
		what = "pause"
		pause = time.Duration(l.rng.Int64N(int64(50 * time.Second)))
	case 4:
		what = "server moves"
		l.s.MoveLocal(l.now, []netip.AddrPort{serverAddr, serverAddr2}[l.rng.IntN(2)], &l.s.out)
		l.flush(&l.s)
	case 5:
		what = "ping"
		l.c.Ping(l.now, &l.c.out)
		l.flush(&l.c)
	case 6:
		what = "race"
		if l.c.State() == StateOpen {
			l.race([]netip.AddrPort{serverAddr, serverAddr2}, map[uint32]netip.AddrPort{l.socket: l.fresh()})
			l.socket++
		}
	case 7:
		what = "large"
		l.serverSend(strings.Repeat("large", 500))
	case 8:
		what = "no ids"
		l.s.ids.fail, l.c.ids.fail = l.chance(0.3), l.chance(0.3)
	default:
		what = "datagrams"
		for range 1 + l.rng.IntN(5) {
			if n%2 == 0 {
				l.clientSend("up")
			} else {
				l.serverSend("down")
			}
			l.run(time.Duration(l.rng.Int64N(int64(l.rtt))))
		}
	}
	l.run(pause)
	return what
}

// view is all that can be seen of both ends, and all that cannot.
func (l *life) view() string {
	var b strings.Builder
	for _, e := range []*end{&l.c, &l.s} {
		at, ok := e.Deadline()
		fmt.Fprintf(&b, "%v got %q\nevents %+v\ndeadline %v %v\ncounts %v\n%s", e.role, e.got, e.events, at, ok, e.Info().Counts, snapshot(e.Session))
	}
	for _, f := range l.wire {
		fmt.Fprintf(&b, "%v %v to %v: %x\n", f.at, f.src, f.dst, f.data)
	}
	return b.String()
}

// diff is the lines in which two views differ, the first few.
func diff(a, b string) string {
	if a == b {
		return ""
	}
	var d []string
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			d = append(d, strings.Join(append(slices.Clone(x[min(i, len(x)):min(i+1, len(x))]), y[min(i, len(y)):min(i+1, len(y))]...), "\n  "))
		}
		if len(d) == 8 {
			break
		}
	}
	return strings.Join(d, "\n")
}
