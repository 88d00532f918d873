// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// BenchmarkReaddress loses the address that all clients of an idle server speak to. It
// measures once, whatever b.N: all that it costs the process, with the kernel's part over
// a veth, and how long a session that sends a datagram a millisecond waits meanwhile.
func BenchmarkReaddress(b *testing.B) {
	testutil.RequirePrivileged(b)
	h := openIdle(b, *idleSessions, 1<<12, (*puppets).derive)
	host := h.onWire(b)
	busy := h.directory.at(firstSlot(b, h.bareServer))
	h.lost.set([]netip.Addr{benchLocal.Addr()})
	stop, sent := make(chan struct{}), make(chan []time.Duration)
	go func() {
		var took []time.Duration
		for t := time.NewTicker(time.Millisecond); ; {
			select {
			case <-stop:
				sent <- took
				return
			case <-t.C:
			}
			start := time.Now()
			if err := busy.SendDatagram(make([]byte, 1000)); err != nil {
				b.Error(err)
			}
			took = append(took, time.Since(start))
		}
	}()
	b.ResetTimer()
	used, start := processTime(b), time.Now()
	if err := host.Do(func() error { h.readdress.moveAll(); return nil }); err != nil {
		b.Fatal(err)
	}
	lasted, cpu := time.Since(start), processTime(b)-used
	close(stop)
	took := <-sent
	slices.Sort(took)
	n := float64(h.directory.len())
	b.ReportMetric(lasted.Seconds(), "s")
	b.ReportMetric(cpu.Seconds()*1e6/n, "us-cpu/session")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "us-p99/send")
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "us-max/send")
	b.ReportMetric(0, "ns/op")
	if moved := h.totals.movesStarted.Load(); moved != uint64(n) {
		b.Errorf("%d of %v sessions have moved", moved, n)
	}
	if refused := h.workers[0].counts.sendRefused.Load() + h.counts[0].sendRefused.Load(); refused != 0 {
		b.Errorf("the kernel refused %d packets", refused)
	}
}

// firstSlot is a slot that leads to a session.
func firstSlot(t testing.TB, b *bareServer) uint32 {
	for slot := range b.table.Capacity() {
		if b.directory.at(slot) != nil {
			return slot
		}
	}
	t.Fatal("no session")
	return 0
}

// onWire gives the server a socket on a host whose one address is another than
// benchLocal, and a way to everyone over a wire.
func (h *herd) onWire(t testing.TB) *lab.Namespace {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	namespace := func(name string) *lab.Namespace {
		n, err := lab.NewNamespace(name)
		must(err)
		t.Cleanup(func() { n.Close() })
		return n
	}
	host, gateway := namespace("host"), netip.MustParsePrefix("198.51.100.1/24")
	must(lab.Connect(
		lab.Port{NS: host, Link: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("198.51.100.9/24")}},
		lab.Port{NS: namespace("gateway"), Link: "eth0", Addrs: []netip.Prefix{gateway}},
	))
	must(host.AddRoute(lab.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: gateway.Addr(), Link: "eth0"}))
	must(host.Do(func() (err error) {
		h.workers[0].conn, err = netio.ListenUDP(netio.Config{Addr: netip.MustParseAddrPort("[::]:7626")})
		return err
	}))
	t.Cleanup(func() { h.workers[0].conn.Close() })
	h.addr = h.workers[0].conn.LocalAddr()
	return host
}
