// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func getInt(t *testing.T, c Conn, level, opt int) int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var v int
	var optErr error
	if err := raw.Control(func(fd uintptr) { v, optErr = unix.GetsockoptInt(int(fd), level, opt) }); err != nil {
		t.Fatal(err)
	}
	if optErr != nil {
		t.Fatal(optErr)
	}
	return v
}

func TestOptions(t *testing.T) {
	c := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("[::]:0"), ReadBuffer: 300_000})
	if v := getInt(t, c, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER); v != unix.IP_PMTUDISC_PROBE {
		t.Errorf("IP_MTU_DISCOVER = %d", v)
	}
	if v := getInt(t, c, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER); v != unix.IPV6_PMTUDISC_PROBE {
		t.Errorf("IPV6_MTU_DISCOVER = %d", v)
	}
	if v := getInt(t, c, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); v != 0 {
		t.Errorf("[::] is not dual-stack")
	}
	if v := getInt(t, c, unix.IPPROTO_IP, unix.IP_TOS); v&3 != 0 {
		t.Errorf("ECN bits of TOS %#x are set", v)
	}
	if v := getInt(t, c, unix.SOL_SOCKET, unix.SO_RCVBUF); v < 300_000 {
		t.Errorf("SO_RCVBUF = %d", v)
	}
}

// TestTrains sends packets that make trains and such that must not, from memory
// in one piece and in several, to sockets with and without UDP_GRO.
func TestTrains(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, gro := range []bool{true, false} {
			server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort(addr), GRO: gro, ReadBuffer: 4 << 20})
			other := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort(addr), GRO: gro})
			client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort(addr)})
			var want [][]byte
			var out []Message
			arena := make([]byte, 0, 1<<20)
			add := func(size, gap int) {
				start := len(arena)
				arena = arena[:start+size]
				for i := range size {
					arena[start+i] = byte(i*7 + len(want))
				}
				buf := arena[start:]
				arena = arena[:start+size+gap]
				want = append(want, buf)
				out = append(out, Message{Buf: buf, Remote: server.LocalAddr(), Local: client.LocalAddr()})
			}
			for range 100 { // more than a train holds, and than a batch
				add(400, 0)
			}
			for range 100 {
				add(1400, 3)
			}
			for _, size := range []int{400, 400, 100, 400, 500, 0, 0, 1, 1, 60000, 10000, 10000, 200} {
				add(size, size%3)
			}
			add(200, 0)
			out = append(out, Message{Buf: want[0][:200], Remote: other.LocalAddr(), Local: client.LocalAddr()})
			add(200, 0)
			send(t, client, out...)
			var got []Message
			trains := 0
			for len(got) < len(want) {
				ms := rooms(8, 65536)
				n, err := server.ReadBatch(ms)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range ms[:n] {
					if m.Segment > 0 {
						trains++
					}
				}
				got = Split(got, ms[:n])
			}
			for i, m := range got {
				if !bytes.Equal(m.Data(), want[i]) || m.Segment != 0 {
					t.Fatalf("%s, GRO %v: packet %d has %d bytes, want %d", addr, gro, i, m.N, len(want[i]))
				}
				if m.Local != server.LocalAddr() || m.Remote != client.LocalAddr() {
					t.Fatalf("%s, GRO %v: packet %d from %v to %v", addr, gro, i, m.Remote, m.Local)
				}
			}
			if gro != (trains > 0) {
				t.Errorf("%s, GRO %v: %d trains", addr, gro, trains)
			}
			if m := readN(t, other, 1)[0]; m.N != 200 {
				t.Errorf("%s: the packet to another address has %d bytes", addr, m.N)
			}
		}
	}
}

// TestTrainRefused has the kernel refuse trains: their packets are then refused
// by themselves, and those around them arrive.
func TestTrainRefused(t *testing.T) {
	server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	nowhere := netip.MustParseAddrPort("[::1]:9") // of the wrong family
	var out []Message
	for i, to := range []netip.AddrPort{server.LocalAddr(), server.LocalAddr(), nowhere, nowhere, nowhere, server.LocalAddr(), nowhere} {
		out = append(out, Message{Buf: []byte{byte(i), 0}, Remote: to})
	}
	if n, err := client.WriteBatch(out); n != 3 || err == nil {
		t.Errorf("WriteBatch = %d, %v; want 3 and a refusal", n, err)
	}
	for i, m := range readN(t, server, 3) {
		if want := []byte{0, 1, 5}[i]; m.Data()[0] != want {
			t.Errorf("packet %d is number %d, want %d", i, m.Data()[0], want)
		}
	}
	if !client.(*udpConn).gso {
		t.Error("a refusal that was the packets' ended all trains")
	}
}

// TestWithoutSegments has a socket that sends no trains.
func TestWithoutSegments(t *testing.T) {
	server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), GRO: true})
	client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	client.(*udpConn).gso = false
	send(t, client, Message{Buf: make([]byte, 10), Remote: server.LocalAddr()}, Message{Buf: make([]byte, 10), Remote: server.LocalAddr()})
	for _, m := range readN(t, server, 2) {
		if m.N != 10 || m.Segment != 0 {
			t.Errorf("%d bytes, segments of %d", m.N, m.Segment)
		}
	}
}

// TestControlBounds feeds the decoder lengths that a kernel never gives.
func TestControlBounds(t *testing.T) {
	var c control
	n := c.encode(netip.MustParseAddr("2001:db8::1"), 1200, true)
	if n != len(c)*8 {
		t.Fatalf("both messages take %d bytes of %d", n, len(c)*8)
	}
	for length := -1; length <= n+8; length++ {
		local, _ := c.decode(max(length, 0))
		if length >= cmsgInfoSpace && local != netip.MustParseAddr("2001:db8::1") {
			t.Fatalf("length %d: %v", length, local)
		}
		if length < unix.CmsgLen(unix.SizeofInet6Pktinfo) && local.IsValid() {
			t.Fatalf("length %d: %v out of too few bytes", length, local)
		}
	}
	for v := range 64 { // a broken length field must end the walk
		*(*uint64)(&c[0]) = uint64(v)
		c.decode(n)
	}
}
