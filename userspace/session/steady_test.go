// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// receive is Session.Receive for every simulation of this package. It checks three
// things of each packet: that the caller is told when a deadline comes closer, that
// datagrams lie in the caller's room as promised, and, where plainDatagram might
// deliver it, that a twin which goes the whole way ends up the same.
func (m *sim) receive(e *end, from Path, data []byte) Reason {
	m.t.Helper()
	var twin *Session
	if _, id, err := wire.ParseData(data); err == nil {
		if in := e.findLocal(&id); in != nil && e.steady(in, &from) {
			twin = clone(e.Session)
		}
	}
	before, armed := e.Deadline()
	if len(e.out.Datagrams) == 0 && e.out.Room == nil {
		e.out.Room = make([]byte, []int{0, 1, 10, 1000}[m.quick%4])
	}
	room, had := e.out.Room, len(e.out.Datagrams)
	r := e.Receive(m.now, from, slices.Clone(data), &e.out)
	m.checkRoom(room, e.out.Room, e.out.Datagrams[had:])
	after, ok := e.Deadline()
	if ok && (!armed || after < before) && !e.out.Rearm {
		m.t.Fatalf("%v: a deadline at %v came closer, to %v, and the caller is not told (%v)", m.now, before, after, r)
	}
	if twin == nil || e.out.Rearm {
		return r
	}
	if r == Delivered {
		m.quick++
	}
	var out Output
	slow := twin.receive(m.now, &from, slices.Clone(data), &out, false)
	twin.count(slow)
	if at, _ := twin.Deadline(); r != slow || at != after {
		m.t.Fatalf("%v: by the shortcut %v, next at %v; else %v, at %v", m.now, r, after, slow, at)
	}
	if len(out.Packets)+len(out.Commits)+len(out.Events) > 0 || !slices.EqualFunc(out.Datagrams, e.out.Datagrams, slices.Equal) {
		m.t.Fatalf("%v: by the shortcut %+v, else %+v", m.now, e.out, out)
	}
	if !reflect.DeepEqual(e.Session, twin) {
		x, y := strings.Split(snapshot(e.Session), "\n"), strings.Split(snapshot(twin), "\n")
		for i := range min(len(x), len(y)) {
			if x[i] != y[i] {
				m.t.Errorf("by the shortcut %s, else %s", x[i], y[i])
			}
		}
		m.t.Fatalf("%v: the shortcut makes a difference", m.now)
	}
	return r
}

// checkRoom checks what Receive left of the caller's room.
func (m *sim) checkRoom(room, left []byte, datagrams [][]byte) {
	m.t.Helper()
	switch {
	case len(left) == 0: // what comes next lies elsewhere, be it that this one does
	case len(datagrams) == 0 && len(left) == len(room): // as if nothing had been
	case len(datagrams) == 1 && len(left) == len(room)-RoomGap-len(datagrams[0]) &&
		slices.Equal(room[RoomGap:len(room)-len(left)], datagrams[0]):
		m.roomed++
	default:
		m.t.Fatalf("%v: %d of %d bytes of room are left after %d datagrams", m.now, len(left), len(room), len(datagrams))
	}
}

// clone copies a session with all that it points to of this package.
func clone(s *Session) *Session {
	ours := reflect.TypeFor[Session]().PkgPath()
	seen := map[unsafe.Pointer]reflect.Value{}
	var deepen func(v reflect.Value)
	deepen = func(v reflect.Value) {
		v = reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem() // for its unexported fields
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() || v.Type().Elem().PkgPath() != ours {
				return
			}
			copied, ok := seen[v.UnsafePointer()]
			if !ok {
				copied = reflect.New(v.Type().Elem())
				copied.Elem().Set(v.Elem())
				seen[v.UnsafePointer()] = copied
				deepen(copied.Elem())
			}
			v.Set(copied)
		case reflect.Struct:
			for i := range v.NumField() {
				deepen(v.Field(i))
			}
		case reflect.Slice:
			if v.IsNil() || v.Type().Elem().Kind() == reflect.Uint8 {
				return
			}
			copied := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(copied, v)
			v.Set(copied)
			for i := range v.Len() {
				deepen(v.Index(i))
			}
		}
	}
	p := s
	deepen(reflect.ValueOf(&p).Elem())
	return p
}

// TestSteady has everything happen to a session that there is, in between
// datagrams; the simulation compares.
func TestSteady(t *testing.T) {
	runs := uint64(500)
	if testing.Short() || testutil.Race { // a session has one thread
		runs = 100
	}
	quick, roomed, packets := 0, 0, uint64(0)
	for seed := range runs {
		l := newLife(t, 5000+seed)
		for range 60 {
			l.step()
		}
		quick += l.quick
		roomed += l.roomed
		packets += l.c.received.Packets + l.s.received.Packets
	}
	t.Logf("%d of %d packets by the shortcut, %d into the room given", quick, packets, roomed)
	if quick < int(packets/10) || roomed < quick/10 {
		t.Error("too few for the test to mean much")
	}
}

// life is a simulated session with things happening to it at random.
type life struct {
	*adversary
	socket uint32
	place  int
}

func newLife(t *testing.T, seed uint64) *life {
	m := opened(t, seed)
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

// step lets one thing happen.
func (l *life) step() {
	l.sim.network = l.adversary.network
	if l.chance(0.5) {
		l.sim.network = nil
	}
	pause := time.Duration(l.rng.Int64N(int64(3 * l.rtt)))
	switch n := l.rng.IntN(24); n {
	case 0:
		if l.c.State() == StateOpen {
			l.old = append(l.old, l.victim())
			l.move(l.socket, l.fresh())
			l.socket++
		}
	case 1:
		l.old = append(l.old, l.victim())
		l.rebind(l.fresh())
	case 2:
		l.c.Rekey(l.now, &l.c.out)
	case 3:
		pause = time.Duration(l.rng.Int64N(int64(50 * time.Second)))
	case 4:
		l.s.MoveLocal(l.now, []netip.AddrPort{serverAddr, serverAddr2}[l.rng.IntN(2)], nil, &l.s.out)
	case 5:
		l.c.Ping(l.now, &l.c.out)
	case 6:
		if l.c.State() == StateOpen {
			l.race([]netip.AddrPort{serverAddr, serverAddr2}, map[uint32]netip.AddrPort{l.socket: l.fresh()})
			l.socket++
		}
	case 7:
		l.serverSend(strings.Repeat("large", 500))
	case 8:
		l.s.ids.fail, l.c.ids.fail = l.chance(0.3), l.chance(0.3)
	case 9:
		if l.chance(0.1) {
			e := []*end{&l.c, &l.s}[l.rng.IntN(2)]
			e.Close(l.now, wire.CloseDone, "", &e.out)
		}
	default:
		for range 1 + l.rng.IntN(5) {
			if n%2 == 0 {
				l.clientSend("up")
			} else {
				l.serverSend("down")
			}
			l.run(time.Duration(l.rng.Int64N(int64(l.rtt))))
		}
	}
	l.flush(&l.c)
	l.flush(&l.s)
	l.run(pause)
}
