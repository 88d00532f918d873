// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// What is sent through the ring comes out at the other end's UDP socket, whose
// stack checks every checksum; what cannot go this way is left to the caller.
func TestXSKSends(t *testing.T) {
	w := newWire(t)
	x := w.socket(0)
	w.register(x)
	for _, ends := range [][2]string{{"192.0.2.1:7626", "192.0.2.2:4000"}, {"[2001:db8::1]:7626", "[2001:db8::2]:4000"}} {
		local, remote := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		peer := w.udp(w.far, ends[1])
		send(t, peer, Message{Buf: []byte("whence the way back is known"), Remote: local})
		m := w.read(x, 1)[0]
		if m.Remote != remote || m.Link.IsZero() {
			t.Fatalf("%+v", m)
		}
		const n = 5 * sendFrames
		pattern := bytes.Repeat([]byte("0123456789"), 200)
		out := make([]Message, 100)
		for sent := 0; sent < n; {
			part := min(n-sent, len(out))
			for i := range part {
				out[i] = Message{Buf: pattern[:(sent+i)%1400], Remote: remote, Local: local, Link: m.Link}
			}
			var taken int
			w.eventually(func() bool { taken = x.WriteBatch(out[:part]); return taken > 0 })
			for i, got := range readN(t, peer, taken) {
				if got.N != (sent+i)%1400 || !bytes.Equal(got.Data(), pattern[:got.N]) || got.Remote != local {
					t.Fatalf("datagram %d: %d bytes from %v", sent+i, got.N, got.Remote)
				}
			}
			sent += taken
		}
		good := Message{Buf: []byte("x"), Remote: remote, Local: local, Link: m.Link}
		for name, change := range map[string]func(*Message){
			"no link":        func(m *Message) { m.Link = Link{} },
			"no source":      func(m *Message) { m.Local = netip.AddrPort{} },
			"any source":     func(m *Message) { m.Local = netip.MustParseAddrPort("0.0.0.0:7626") },
			"no destination": func(m *Message) { m.Remote = netip.AddrPort{} },
			"two families": func(m *Message) {
				m.Remote = netip.MustParseAddrPort("[2001:db8::2]:1")
				m.Local = netip.MustParseAddrPort("192.0.2.1:1")
			},
			"larger than MTU": func(m *Message) { m.Buf = make([]byte, 1473) },
			"a zone": func(m *Message) {
				m.Remote = netip.MustParseAddrPort("[fe80::1%7]:1")
				m.Local = netip.MustParseAddrPort("[fe80::2]:1")
			},
		} {
			bad := good
			change(&bad)
			if taken := x.WriteBatch([]Message{good, bad, good}); taken != 1 {
				t.Errorf("%s: %d of 3 were taken, want the one before it", name, taken)
			}
			readN(t, peer, 1)
		}
		for mtu, want := range map[int]int{28: 0, 1500: 1} { // 28: a byte less than it takes
			x.SetMTU(mtu)
			if taken := x.WriteBatch([]Message{good}); taken != want {
				t.Errorf("MTU %d: %d were taken, want %d", mtu, taken, want)
			}
			readN(t, peer, want)
		}
		x.SetMTU(1500)
		allocs := testing.AllocsPerRun(100, func() { x.WriteBatch(out[:10]) })
		if allocs != 0 {
			t.Errorf("%v allocations for a batch", allocs)
		}
	}
	w.must(x.Close())
	if taken := x.WriteBatch([]Message{{Buf: []byte("x")}}); taken != 0 {
		t.Error("a closed socket sends")
	}
}

// BenchmarkSingles sends one packet to each of many peers, as answers go: through
// the ring and by sendmmsg. BenchmarkTrain is a train to one peer by UDP_SEGMENT.
func BenchmarkSingles(b *testing.B) {
	for _, size := range []int{64, 1400} {
		b.Run(fmt.Sprintf("ring/%d", size), func(b *testing.B) {
			w, out := newFlow(b, size, true)
			x := w.socket(0)
			for sent := 0; sent < b.N; {
				sent += x.WriteBatch(out)
			}
		})
		b.Run(fmt.Sprintf("sendmmsg/%d", size), func(b *testing.B) {
			w, out := newFlow(b, size, true)
			sendAll(b, w.udp(w.near, "192.0.2.1:7626"), out)
		})
	}
}

func BenchmarkTrain(b *testing.B) {
	for _, size := range []int{64, 1400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w, out := newFlow(b, size, false)
			sendAll(b, w.udp(w.near, "192.0.2.1:7626"), out[:32])
		})
	}
}

func sendAll(b *testing.B, c Conn, out []Message) {
	b.Helper()
	for sent := 0; sent < b.N; sent += len(out) {
		if n, err := c.WriteBatch(out); n != len(out) || err != nil {
			b.Fatal(n, err)
		}
	}
}

// newFlow makes a wire whose far end takes everything off the ring at once, and a
// batch of packets to it.
func newFlow(b *testing.B, size int, many bool) (*wire, []Message) {
	b.Helper()
	w := newWire(b)
	w.must(w.far.Do(func() error { return w.attach(w.farIndex, xdpDrop) }))
	link := AnswerLink([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}, ethernetLen)
	out := make([]Message, 64)
	for i := range out {
		port := uint16(4000)
		if many {
			port += uint16(i)
		}
		out[i] = Message{
			Buf: make([]byte, size), Link: link, Local: netip.MustParseAddrPort("192.0.2.1:7626"),
			Remote: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), port),
		}
	}
	// The neighbour, and the packets that ask for it.
	send(b, w.udp(w.near, "192.0.2.1:1"), Message{Buf: make([]byte, size), Remote: out[0].Remote})
	b.ResetTimer()
	return w, out
}

// With jumbo frames, which a socket's memory does not hold, the MTU is not what
// bounds a packet.
func TestXSKSendsNoMoreThanAFrame(t *testing.T) {
	const frameSize = 4096
	for _, network := range []int{ethernetLen, ethernetLen + 2*vlanTagLen} {
		x := &XSK{umem: make([]byte, 2*frameSize), frameSize: frameSize, out: sending{mtu: 9000, free: []uint64{0, frameSize}}}
		m := Message{
			Remote: netip.MustParseAddrPort("192.0.2.2:4000"), Local: netip.MustParseAddrPort("192.0.2.1:7626"),
			Link: AnswerLink(make([]byte, network), network), Buf: make([]byte, frameSize-network-ipv4Len-udpLen+1),
		}
		var d unix.XDPDesc
		if x.put(&m, &d) {
			t.Errorf("a frame of %d bytes was put into %d", d.Len, frameSize)
		}
		m.Buf = m.Buf[1:]
		if !x.put(&m, &d) || d.Len != frameSize {
			t.Errorf("a full frame: %+v", d)
		}
	}
}
