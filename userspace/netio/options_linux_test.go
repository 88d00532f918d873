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

// TestSegments sends one train by UDP_SEGMENT and gets it as one by UDP_GRO,
// and as its packets without.
func TestSegments(t *testing.T) {
	const size, count = 400, 5
	train := make([]byte, size*(count-1)+100)
	for i := range train {
		train[i] = byte(i * 7)
	}
	for _, gro := range []bool{true, false} {
		server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), GRO: gro})
		client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
		send(t, client, Message{Buf: train, Remote: server.LocalAddr(), Local: client.LocalAddr(), Segment: size})
		var got []byte
		for len(got) < len(train) {
			ms := rooms(8, 65536)
			n, err := server.ReadBatch(ms)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range ms[:n] {
				if gro && m.Segment != size && m.N > size {
					t.Errorf("%d bytes with segment size %d", m.N, m.Segment)
				}
				if !gro && (m.Segment != 0 || m.N > size) {
					t.Errorf("without GRO: %d bytes with segment size %d", m.N, m.Segment)
				}
				if m.Local != server.LocalAddr() {
					t.Errorf("Local = %v", m.Local)
				}
				got = append(got, m.Data()...)
			}
		}
		if !bytes.Equal(got, train) {
			t.Errorf("GRO %v: the train came changed", gro)
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
