// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// aSource is a host that sends from one address, or has no way to anyone.
type aSource netip.Addr

func (a *aSource) To(netip.AddrPort) netip.Addr { return netip.Addr(*a) }
func (*aSource) Close()                         {}

// aGap is a host that sends from one address and has no way to one client.
type aGap struct {
	aSource
	away netip.AddrPort
}

func (g *aGap) To(remote netip.AddrPort) netip.Addr {
	if remote == g.away {
		return netip.Addr{}
	}
	return g.aSource.To(remote)
}

// batches counts the calls that write to a sink.
type batches struct {
	sink
	calls int
}

func (b *batches) WriteBatch(ms []netio.Message) (int, error) {
	b.calls++
	return b.sink.WriteBatch(ms)
}

// What the sessions of a lost address are told goes out in batches, one packet for
// each session, and only for those; one to whom no way leads is told when there is
// one again.
func TestReaddress(t *testing.T) {
	const n = 4 * batchSize
	b := newBareServer(t, 1<<12)
	p := openPuppets(t, b, n)
	b.addr = netip.MustParseAddrPort("[::]:7626")
	host := new(aSource)
	b.readdress.routes = host
	other := netip.MustParseAddrPort("198.51.100.8:7626")
	elsewhere := p.to[0] // at another of our addresses
	elsewhere.mu.Lock()
	var out session.Output
	if err := elsewhere.state.MoveLocal(b.clock.now(), other, nil, &out); err != nil {
		t.Fatal(err)
	}
	elsewhere.mu.Unlock()

	conn := &batches{sink: b.workers[0].conn.(sink)}
	b.workers[0].conn = conn
	type sent struct {
		packets int
		id      wire.ID
		local   netip.AddrPort
		size    int
	}
	var all map[netip.AddrPort]sent
	b.answer = func(m netio.Message) {
		_, id, err := wire.ParseData(m.Buf)
		if err != nil {
			t.Error(err)
		}
		all[m.Remote] = sent{all[m.Remote].packets + 1, id, m.Local, len(m.Buf)}
	}
	move := func(what string, want int) {
		t.Helper()
		all, conn.calls = make(map[netip.AddrPort]sent), 0
		b.readdress.moveAll()
		if len(all) != want || conn.calls > n/batchSize+1 {
			t.Errorf("%s: %d clients are told with %d calls, want %d", what, len(all), conn.calls, want)
		}
	}
	move("nothing is lost", 0)
	b.lost.set([]netip.Addr{benchLocal.Addr()})
	move("no way to anyone", 0)
	if b.readdress.mayReach() {
		t.Error("a way is seen where none is")
	}
	*host = aSource(netip.MustParseAddr("198.51.100.9"))
	if !b.readdress.mayReach() {
		t.Error("nobody waits for a way")
	}
	move("there is a way", n-1)
	for remote, s := range all {
		if s.packets != 1 || s.local != netip.MustParseAddrPort("198.51.100.9:7626") || s.id[11] == 0 /* its seq */ || s.size < 1200 {
			t.Errorf("%v: %+v", remote, s)
		}
	}
	if b.readdress.mayReach() {
		t.Error("somebody still waits")
	}
	move("all have moved", 0)
	if got := elsewhere.LocalAddr(); got != other {
		t.Errorf("the session of another address went to %v", got)
	}
}

// A million sessions take so long to be told that the watchdog must see it go on.
func TestReaddressIsNotStuck(t *testing.T) {
	b := newBareServer(t, 1<<12)
	openPuppets(t, b, 2*batchSize)
	b.addr = netip.MustParseAddrPort("[::]:7626")
	host := aSource(netip.MustParseAddr("198.51.100.9"))
	b.readdress.routes = &host
	b.lost.set([]netip.Addr{benchLocal.Addr()})
	var begun []session.Time
	b.answer = func(netio.Message) {
		if at := b.readdress.work.since.Load(); len(begun) == 0 || begun[len(begun)-1] != session.Time(at) {
			begun = append(begun, session.Time(at))
		}
	}
	b.readdress.moveAll()
	if len(begun) != 2 || begun[0] == 0 {
		t.Errorf("%d pieces of work are seen, want one for each batch", len(begun))
	}
	if b.readdress.work.since.Load() != 0 {
		t.Error("it is still at work")
	}
}

// Clients whose network is back are told, though another one that stays away was the
// last to whom no way led.
func TestReaddressPastOneThatStaysAway(t *testing.T) {
	const n = 3
	b := newBareServer(t, 1<<12)
	openPuppets(t, b, n)
	b.addr = netip.MustParseAddrPort("[::]:7626")
	r := &b.readdress
	r.routes = new(aSource)
	if r.due(b.clock.now() + time.Hour) {
		t.Error("work for nobody")
	}
	b.lost.set([]netip.Addr{benchLocal.Addr()})
	told := 0
	b.answer = func(netio.Message) { told++ }
	r.moveAll()
	var away netip.AddrPort
	for _, remote := range r.stranded {
		if remote.IsValid() {
			away = remote
		}
	}
	r.routes = &aGap{aSource(netip.MustParseAddr("198.51.100.9")), away}
	if r.mayReach() {
		t.Fatal("it is not away")
	}
	if r.due(r.again - 1) {
		t.Error("all are looked at without a pause")
	}
	if !r.due(r.again) {
		t.Fatal("the others are not looked at again")
	}
	if r.moveAll(); told != n-1 {
		t.Errorf("%d of %d clients were told", told, n-1)
	}
}
