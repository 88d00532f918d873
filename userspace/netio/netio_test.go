// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// patience is what a busy machine may take for what an idle one does at once.
const patience = 30 * time.Second

func listenOrSkip(t testing.TB, cfg Config) Conn {
	t.Helper()
	c, err := ListenUDP(cfg)
	if err != nil {
		if cfg.Addr.Addr().Is6() {
			if p, e := net.ListenPacket("udp6", "[::1]:0"); e != nil {
				t.Skipf("this host has no IPv6: %v", e)
			} else {
				p.Close()
			}
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func rooms(n, size int) []Message {
	ms := make([]Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, size)
	}
	return ms
}

// readN reads until n messages have come, or fails.
func readN(t testing.TB, c Conn, n int) []Message {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var all []Message
	for len(all) < n {
		ms := rooms(MaxBatch, 2048)
		got, err := c.ReadBatch(ms)
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(all), n, err)
		}
		all = append(all, ms[:got]...)
	}
	return all
}

func send(t testing.TB, c Conn, ms ...Message) {
	t.Helper()
	if n, err := c.WriteBatch(ms); n != len(ms) || err != nil {
		t.Fatalf("WriteBatch: %d of %d, %v", n, len(ms), err)
	}
}

// TestEnds sends to every kind of socket and back, and checks both ends of each datagram.
func TestEnds(t *testing.T) {
	for _, tc := range []struct{ name, listen, to, from string }{
		{"v4", "127.0.0.1:0", "127.0.0.1", "127.0.0.1:0"},
		{"v4 wildcard, second address", "0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"},
		{"v6", "[::1]:0", "::1", "[::1]:0"},
		{"v6 wildcard", "[::]:0", "::1", "[::1]:0"},
		{"dual-stack, v4 peer", "[::]:0", "127.0.0.1", "127.0.0.1:0"},
		{"dual-stack, v4 peer, second address", "[::]:0", "127.0.0.2", "127.0.0.3:0"},
		{"dual-stack both, v4", "[::]:0", "127.0.0.2", "[::]:0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if runtime.GOOS != "linux" && (tc.to == "127.0.0.2" || netip.MustParseAddrPort(tc.listen).Addr().IsUnspecified()) {
				t.Skip("only Linux tells which of our addresses a datagram was sent to")
			}
			server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort(tc.listen)})
			client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort(tc.from)})
			to := netip.AddrPortFrom(netip.MustParseAddr(tc.to), server.LocalAddr().Port())
			send(t, client, Message{Buf: []byte("question"), Remote: to})

			got := readN(t, server, 1)[0]
			if string(got.Data()) != "question" {
				t.Fatalf("data %q", got.Data())
			}
			if got.Local != to {
				t.Errorf("Local = %v, sent to %v", got.Local, to)
			}
			if got.Remote.Port() != client.LocalAddr().Port() || got.Remote.Addr().Is4In6() {
				t.Errorf("Remote = %v, sent from port %d", got.Remote, client.LocalAddr().Port())
			}

			// The answer must come from the address that was asked.
			send(t, server, Message{Buf: []byte("answer"), Remote: got.Remote, Local: got.Local})
			back := readN(t, client, 1)[0]
			if string(back.Data()) != "answer" || back.Remote != to {
				t.Fatalf("answer %q from %v, want it from %v", back.Data(), back.Remote, to)
			}
		})
	}
}

func TestBatch(t *testing.T) {
	// More than one system call's worth, each datagram of another size.
	const n = 2*MaxBatch + 7
	server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), ReadBuffer: 4 << 20})
	client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	pattern := bytes.Repeat([]byte("0123456789"), 200)
	out := make([]Message, n)
	for i := range out {
		out[i] = Message{Buf: pattern[:1+i*3], Remote: server.LocalAddr()}
	}
	send(t, client, out...)
	for i, m := range readN(t, server, n) {
		if !bytes.Equal(m.Data(), out[i].Buf) || m.Segment != 0 {
			t.Fatalf("datagram %d: %d bytes, want %d (segment %d)", i, m.N, len(out[i].Buf), m.Segment)
		}
	}
}

func TestTooLargeForBuffer(t *testing.T) {
	server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	send(t, client, Message{Buf: make([]byte, 3000), Remote: server.LocalAddr()},
		Message{Buf: []byte("fits"), Remote: server.LocalAddr()})
	ms := readN(t, server, 2)
	if runtime.GOOS == "linux" && ms[0].N != 0 {
		t.Errorf("a cut datagram shows %d bytes", ms[0].N)
	}
	if string(ms[1].Data()) != "fits" {
		t.Errorf("the next one is %q", ms[1].Data())
	}
}

// TestRefused checks that a datagram that cannot be sent does not stop the ones behind it.
func TestRefused(t *testing.T) {
	server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	n, err := client.WriteBatch([]Message{
		{Buf: []byte("a"), Remote: server.LocalAddr()},
		{Buf: []byte("no destination")},
		{Buf: make([]byte, 70000), Remote: server.LocalAddr()},
		{Buf: []byte("wrong family"), Remote: netip.MustParseAddrPort("[::1]:9")},
		{Buf: []byte("b"), Remote: server.LocalAddr()},
	})
	if n != 2 || err == nil {
		t.Fatalf("WriteBatch = %d, %v; want 2 and a refusal", n, err)
	}
	ms := readN(t, server, 2)
	if string(ms[0].Data()) != "a" || string(ms[1].Data()) != "b" {
		t.Fatalf("got %q, %q", ms[0].Data(), ms[1].Data())
	}
}

// TestICMP sends to a closed port: the port unreachable that comes back must not surface.
func TestICMP(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		gone := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort(addr)})
		to := gone.LocalAddr()
		gone.Close()
		c := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort(addr)})
		for range 3 {
			send(t, c, Message{Buf: []byte("x"), Remote: to})
		}
		send(t, c, Message{Buf: []byte("self"), Remote: c.LocalAddr()})
		if m := readN(t, c, 1)[0]; string(m.Data()) != "self" {
			t.Fatalf("got %q", m.Data())
		}
	}
}

func TestCloseWakesReader(t *testing.T) {
	c := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	errs := make(chan error)
	go func() {
		_, err := c.ReadBatch(rooms(4, 100))
		errs <- err
	}()
	time.Sleep(10 * time.Millisecond) // let it wait in the poller; closing earlier passes too
	c.Close()
	select {
	case err := <-errs:
		if !errors.Is(err, net.ErrClosed) {
			t.Fatalf("read after Close: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the reader still waits")
	}
	if _, err := c.WriteBatch([]Message{{Buf: []byte("x"), Remote: c.LocalAddr()}}); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("write after Close: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	c := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadBatch(rooms(1, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read after the deadline: %v", err)
	}
}

func TestReusePort(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no SO_REUSEPORT")
	}
	a := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), ReusePort: true})
	listenOrSkip(t, Config{Addr: a.LocalAddr(), ReusePort: true})
	if _, err := ListenUDP(Config{Addr: a.LocalAddr()}); err == nil {
		t.Fatal("a socket without ReusePort joined the group")
	}
}

func TestListenErrors(t *testing.T) {
	if _, err := ListenUDP(Config{}); !errors.Is(err, ErrNoAddress) {
		t.Errorf("no address: %v", err)
	}
	// 192.0.2.0/24 is reserved for documentation (RFC 5737): on no host.
	if _, err := ListenUDP(Config{Addr: netip.MustParseAddrPort("192.0.2.1:0")}); err == nil {
		t.Error("bound to an address that is not ours")
	}
	if _, err := ListenUDP(Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Device: "no-such-dev0"}); err == nil {
		t.Error("bound to a device that is not there")
	}
}

// TestConcurrentWriters has several goroutines share one socket, for the race detector.
func TestConcurrentWriters(t *testing.T) {
	server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), ReadBuffer: 1 << 20})
	client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if n, err := client.WriteBatch([]Message{{Buf: []byte("x"), Remote: server.LocalAddr()}}); n != 1 {
					t.Errorf("WriteBatch: %d, %v", n, err)
				}
			}
		})
	}
	readN(t, server, 80)
	wg.Wait()
}

func TestAllocations(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux's path is free of allocations")
	}
	for _, addr := range []string{"127.0.0.1:0", "[::]:0"} {
		server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort(addr), ReadBuffer: 1 << 20})
		client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
		to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), server.LocalAddr().Port())
		out := make([]Message, 16)
		for i := range out {
			out[i] = Message{Buf: make([]byte, 100), Remote: to, Local: client.LocalAddr()}
		}
		in := rooms(32, 2048)
		got := testing.AllocsPerRun(100, func() {
			if _, err := client.WriteBatch(out); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < len(out); {
				k, err := server.ReadBatch(in)
				if err != nil {
					t.Fatal(err)
				}
				n += k
			}
		})
		if got > 0 {
			t.Errorf("%s: %v allocations for a batch of %d", addr, got, len(out))
		}
	}
}

// BenchmarkBatch moves batches over the loopback, where the receiver's work is
// part of the sender's call.
func BenchmarkBatch(b *testing.B) {
	for _, size := range []int{64, 1400} {
		for _, gro := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dB/GRO=%v", size, gro), func(b *testing.B) {
				if gro && runtime.GOOS != "linux" {
					b.Skip("only Linux has UDP_GRO")
				}
				benchmarkBatch(b, size, gro)
			})
		}
	}
}

func benchmarkBatch(b *testing.B, size int, gro bool) {
	server := listenOrSkip(b, Config{Addr: netip.MustParseAddrPort("[::]:0"), ReadBuffer: 4 << 20, GRO: gro})
	client := listenOrSkip(b, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), server.LocalAddr().Port())
	out := make([]Message, 64)
	arena := make([]byte, size*len(out))
	for i := range out {
		out[i] = Message{Buf: arena[i*size : (i+1)*size], Remote: to}
	}
	in := rooms(64, 65536)
	var split []Message
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.WriteBatch(out); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < len(out); {
			k, err := server.ReadBatch(in)
			if err != nil {
				b.Fatal(err)
			}
			split = Split(split[:0], in[:k])
			n += len(split)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(out)), "ns/packet")
}
