// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestAddresses(t *testing.T) {
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7626"), netip.MustParseAddrPort("[2001:db8::1]:443")}
	srv := listen(t, func(c *Config) { c.Addresses = want })
	for _, local := range []string{"127.0.0.1", "::1"} {
		init, _ := newAttempt(t, srv, nil)
		if reply, _ := exchange(t, newSocket(t, local, srv), init); !slices.Equal(reply.Addrs, want) {
			t.Errorf("a client at %s was told %v", local, reply.Addrs)
		}
	}
	var many []netip.AddrPort
	for i := range wire.MaxAddrs + 1 {
		many = append(many, netip.MustParseAddrPort(fmt.Sprintf("[2001:db8::%d]:7626", i+1)))
	}
	if err := checkAddresses(many[1:]); err != nil {
		t.Errorf("%d addresses: %v", wire.MaxAddrs, err)
	}
	for name, wrong := range map[string][]netip.AddrPort{
		"too many": many, "none": {{}}, "no port": {netip.MustParseAddrPort("192.0.2.1:0")},
		"any": {netip.MustParseAddrPort("0.0.0.0:7626")}, "multicast": {netip.MustParseAddrPort("[ff02::1]:7626")},
		"twice": {want[0], want[0]},
	} {
		if err := checkAddresses(wrong); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A client of a session that lives hears of other addresses too.
func TestSetAddresses(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	talk(t, accept(t, srv), c, "before")
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:7626")}
	if err := srv.SetAddresses(want); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client has heard", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Equal(c.state.ServerAddrs(), want)
	})
	init, cfg := newAttempt(t, srv, nil)
	sock := newSocket(t, "127.0.0.1", srv)
	reply, _ := exchange(t, sock, init)
	if !slices.Equal(reply.Addrs, want) {
		t.Errorf("a new client was told %v", reply.Addrs)
	}
	// They change between its RESP and its first packet.
	want = append(want, netip.MustParseAddrPort("192.0.2.10:7626"))
	if err := srv.SetAddresses(want); err != nil {
		t.Fatal(err)
	}
	c = newClient(t, sock, cfg, reply)
	eventually(t, "it has heard of the change", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Equal(c.state.ServerAddrs(), want)
	})
	if err := srv.SetAddresses([]netip.AddrPort{{}}); !errors.Is(err, ErrConfig) || !slices.Equal(srv.addresses(), want) {
		t.Errorf("an invalid one: %v, now %v", err, srv.addresses())
	}
}

// What the kernel refuses because the source is no address of the host any more
// goes out from another, once, and the rest of its batch once too.
func TestLostAddress(t *testing.T) {
	srv := listen(t, nil)
	to := newSocket(t, "127.0.0.1", srv)
	at := to.conn.LocalAddr()
	snd := sender{srv: srv, conn: srv.workers[0].conn}
	counts := new(counters)
	packet := func(text, local string) {
		snd.out.Packets = append(snd.out.Packets, session.Packet{
			Data: []byte(text), Path: session.Path{Remote: at, Local: netip.AddrPortFrom(netip.MustParseAddr(local), 0)},
		})
	}
	read := func(want ...string) {
		t.Helper()
		var got []string
		for len(got) < len(want) {
			pkt := to.read(patience)
			if pkt == nil {
				break
			}
			got = append(got, string(pkt))
		}
		to.silence("all that was to come")
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q came, want %q", got, want)
		}
	}
	lost := netip.MustParseAddr("192.0.2.77") // TEST-NET-1: no host has it
	packet("a", "127.0.0.1")
	packet("b", lost.String())
	packet("c", "127.0.0.2")
	snd.flush(counts)
	read("a", "b", "c")
	if !srv.lost.has(lost) || srv.lost.has(netip.MustParseAddr("127.0.0.2")) || counts.sendRefused.Load() != 0 {
		t.Errorf("lost: %v, refused: %d", srv.lost.list(), counts.sendRefused.Load())
	}
	packet("d", lost.String()) // now known without asking
	snd.flush(counts)
	read("d")
	srv.reviewAddresses()
	if !srv.lost.has(lost) {
		t.Error("it came back by itself")
	}
	// One that is back is used again.
	back := netip.MustParseAddr("127.0.0.3")
	srv.lost.use(back)
	srv.lost.set([]netip.Addr{lost, back})
	srv.reviewAddresses()
	if srv.lost.has(back) || !srv.lost.has(lost) {
		t.Errorf("after a look: %v", srv.lost.list())
	}
	// Other refusals are refusals.
	snd.msgs = append(snd.msgs, netio.Message{Buf: []byte("x"), Remote: netip.MustParseAddrPort("127.0.0.1:0"), Local: netip.AddrPortFrom(back, 0)})
	snd.flush(counts)
	if counts.sendRefused.Load() != 1 || srv.lost.has(back) {
		t.Errorf("a packet to port 0: %d refused, lost %v", counts.sendRefused.Load(), srv.lost.list())
	}
}

// Where a host takes a whole network for its own, whoever sends names our address:
// forged INITs leave none of them to look after, and clients only so many.
func TestAddressesInUse(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Workers, c.TableSlots, c.Cookie = 1, maps.MinSlots, CookieNever })
	used := func() (n int) {
		srv.lost.used.Range(func(any, any) bool { n++; return true })
		return n
	}
	forged := newInits(srv)
	for range 3 {
		init, _ := newAttempt(t, srv, nil)
		forged.send(init.Packet())
	}
	eventually(t, "the handshakes are done", func() bool { return srv.Stats().Packets[RespAccepted] == 3 })
	if n := used(); n != 0 {
		t.Errorf("half-open sessions have us look after %d addresses", n)
	}
	for n := range uint32(2 * maxUsed) {
		srv.lost.use(network6(n))
	}
	if n := used(); n != maxUsed {
		t.Errorf("we look after %d addresses, want %d", n, maxUsed)
	}
}
