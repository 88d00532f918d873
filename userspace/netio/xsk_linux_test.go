// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

const xskPort = 7626

// wire is a veth pair: an XDP program at one end redirects every UDP datagram to
// the AF_XDP socket of its queue, at the other end is whoever sends.
type wire struct {
	*testing.T
	near, far *lab.Namespace
	ifindex   int
	farIndex  int
	xsks      *ebpf.Map
}

func newWire(t *testing.T) *wire {
	t.Helper()
	testutil.RequirePrivileged(t)
	w := &wire{T: t}
	namespace := func(name string) *lab.Namespace {
		n, err := lab.NewNamespace(name)
		w.must(err)
		t.Cleanup(func() { n.Close() })
		return n
	}
	w.near, w.far = namespace("near"), namespace("far")
	prefixes := func(host string) []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix("192.0.2." + host + "/24"), netip.MustParsePrefix("2001:db8::" + host + "/64")}
	}
	w.must(lab.Connect(
		lab.Port{NS: w.near, Link: "near0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Addrs: prefixes("1")},
		lab.Port{NS: w.far, Link: "far0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Addrs: prefixes("2")}))
	w.must(w.near.WaitIPv6("near0"))
	w.must(w.far.WaitIPv6("far0"))
	var err error
	w.ifindex, err = w.near.Index("near0")
	w.must(err)
	w.farIndex, err = w.far.Index("far0")
	w.must(err)
	w.must(w.near.Do(w.attach))
	return w
}

func (w *wire) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// attach redirects all frames of 50 bytes and more: neighbour discovery is shorter
// (ARP) or marked by its traffic to multicast, which this program passes too.
func (w *wire) attach() (err error) {
	if w.xsks, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4}); err != nil {
		return err
	}
	const pass = 2
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),  // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),  // data_end
		asm.LoadMem(asm.R4, asm.R1, 16, asm.Word), // rx_queue_index
		asm.Mov.Reg(asm.R5, asm.R2),
		asm.Add.Imm(asm.R5, 50),
		asm.JGT.Reg(asm.R5, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, 12, asm.Half), // EtherType
		asm.JEq.Imm(asm.R5, 0x0081, "redirect"),   // VLAN
		asm.LoadMem(asm.R6, asm.R2, 23, asm.Byte), // protocol of IPv4
		asm.JEq.Imm(asm.R5, 0x0008, "protocol"),
		asm.LoadMem(asm.R6, asm.R2, 20, asm.Byte), // of IPv6
		asm.Mov.Reg(asm.R6, asm.R6).WithSymbol("protocol"),
		asm.JNE.Imm(asm.R6, unix.IPPROTO_UDP, "pass"),
		asm.LoadMapPtr(asm.R1, w.xsks.FD()).WithSymbol("redirect"),
		asm.Mov.Reg(asm.R2, asm.R4),
		asm.Mov.Imm(asm.R3, pass),
		asm.FnRedirectMap.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	}})
	if err != nil {
		return fmt.Errorf("%+v", err)
	}
	defer program.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: w.ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		return err
	}
	w.Cleanup(func() { l.Close(); w.xsks.Close() })
	return nil
}

// socket opens an AF_XDP socket on the wire's one queue. Unregistered, it gets nothing.
func (w *wire) socket(frames int) *XSK {
	w.Helper()
	var x *XSK
	w.must(w.near.Do(func() (err error) {
		x, err = ListenXSK(XSKConfig{Interface: w.ifindex, Port: xskPort, MTU: 1500, Frames: frames})
		return err
	}))
	w.Cleanup(func() { x.Close() })
	return x
}

func (w *wire) register(x *XSK) {
	w.Helper()
	raw, err := x.SyscallConn()
	w.must(err)
	w.must(raw.Control(func(fd uintptr) { err = w.xsks.Put(uint32(0), uint32(fd)) }))
	w.must(err)
}

// udp opens a UDP socket in one of the namespaces.
func (w *wire) udp(in *lab.Namespace, addr string) Conn {
	w.Helper()
	var c Conn
	w.must(in.Do(func() (err error) {
		c, err = ListenUDP(Config{Addr: netip.MustParseAddrPort(addr), ReadBuffer: 1 << 20})
		return err
	}))
	w.Cleanup(func() { c.Close() })
	return c
}

// read reads until n datagrams have come. Their bytes are copied out of the frames.
func (w *wire) read(x *XSK, n int) (all []Message) {
	w.Helper()
	w.must(x.SetReadDeadline(time.Now().Add(5 * time.Second)))
	ms := make([]Message, MaxBatch)
	for len(all) < n {
		got, err := x.ReadBatch(ms)
		if err != nil {
			w.Fatalf("after %d of %d: %v (%+v)", len(all), n, err, x.Drops())
		}
		for _, m := range ms[:got] {
			m.Buf = bytes.Clone(m.Data())
			all = append(all, m)
		}
	}
	return all
}

func TestXSKReceives(t *testing.T) {
	w := newWire(t)
	x := w.socket(0)
	w.register(x)
	for _, tc := range []struct{ from, to string }{
		{"192.0.2.2:4000", "192.0.2.1:7626"},
		{"[2001:db8::2]:4000", "[2001:db8::1]:7626"},
	} {
		from, to := netip.MustParseAddrPort(tc.from), netip.MustParseAddrPort(tc.to)
		c := w.udp(w.far, tc.from)
		const n = 3*MaxBatch + 5
		pattern := bytes.Repeat([]byte("0123456789"), 200)
		for sent := 0; sent < n; {
			// A veth queues 256: what was sent is read before more is.
			part := min(n-sent, 100)
			for i := range part {
				send(t, c, Message{Buf: pattern[:16+(sent+i)*3], Remote: to})
			}
			for i, m := range w.read(x, part) {
				if want := pattern[:16+(sent+i)*3]; !bytes.Equal(m.Buf, want) || m.Remote != from || m.Local != to {
					t.Fatalf("datagram %d: %d bytes from %v to %v; sent %d from %v to %v", sent+i, m.N, m.Remote, m.Local, len(want), from, to)
				}
			}
			sent += part
		}
	}
	if d := x.Drops(); d != (Drops{}) {
		t.Errorf("drops: %+v", d)
	}
	if x.Info().ZeroCopy {
		t.Error("a veth is said to have zero-copy")
	}
}

// Frames with VLAN tags come as they are, and what is not for our port is counted.
func TestXSKFrames(t *testing.T) {
	w := newWire(t)
	x := w.socket(0)
	w.register(x)
	fd, err := w.far.OpenPacket("far0", lab.EtherNone)
	w.must(err)
	defer fd.Close()
	for _, tags := range []int{0, 1, 2} {
		b := craft(tags, xskPort, fmt.Sprintf("with %d tags", tags))
		_, err := fd.Write(b)
		w.must(err)
		if m := w.read(x, 1)[0]; string(m.Buf) != fmt.Sprintf("with %d tags", tags) || m.Remote.String() != "192.0.2.9:4000" {
			t.Errorf("%d tags: %q from %v", tags, m.Buf, m.Remote)
		}
	}
	_, err = fd.Write(craft(1, xskPort+1, "for another port"))
	w.must(err)
	_, err = fd.Write(craft(0, xskPort, "the next one"))
	w.must(err)
	if m := w.read(x, 1)[0]; string(m.Buf) != "the next one" {
		t.Errorf("got %q", m.Buf)
	}
	if d := x.Drops(); d != (Drops{Malformed: 1}) {
		t.Errorf("drops: %+v", d)
	}
}

// craft makes a frame to near0 with VLAN tags.
func craft(tags int, port uint16, payload string) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for i := range tags {
		b = append(b, 0x81, 0x00, 0, byte(10+i))
	}
	b = append(b, 0x08, 0x00)
	ip := make([]byte, ipv4Len+udpLen, 64)
	ip[0], ip[8], ip[9] = 0x45, 64, protoUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Len+udpLen+len(payload)))
	copy(ip[12:], []byte{192, 0, 2, 9, 192, 0, 2, 1})
	binary.BigEndian.PutUint16(ip[20:], 4000)
	binary.BigEndian.PutUint16(ip[22:], port)
	binary.BigEndian.PutUint16(ip[24:], uint16(udpLen+len(payload)))
	b = append(append(b, ip...), payload...)
	return append(b, make([]byte, max(0, 60-len(b)))...)
}

// Without a socket in the map, the queue's packets go the ordinary way.
func TestXSKAbsent(t *testing.T) {
	w := newWire(t)
	x := w.socket(0)
	server, client := w.udp(w.near, "192.0.2.1:7626"), w.udp(w.far, "192.0.2.2:4000")
	send(t, client, Message{Buf: []byte("before anything was there"), Remote: server.LocalAddr()})
	readN(t, server, 1)
	w.register(x)
	send(t, client, Message{Buf: []byte("while the socket is there"), Remote: server.LocalAddr()})
	w.read(x, 1)
	w.must(x.Close())
	send(t, client, Message{Buf: []byte("after it has gone again..."), Remote: server.LocalAddr()})
	readN(t, server, 1)
}

// A reader that does not read loses what does not fit, and it is counted.
func TestXSKOverrun(t *testing.T) {
	w := newWire(t)
	const frames, sent = 128, 500
	x := w.socket(frames)
	w.register(x)
	client := w.udp(w.far, "192.0.2.2:4000")
	to := netip.MustParseAddrPort("192.0.2.1:7626")
	for i := range sent {
		send(t, client, Message{Buf: fmt.Appendf(nil, "datagram %d ...........", i), Remote: to})
		if i%64 == 63 { // the 256 places of a veth's ring
			w.eventually(func() bool { return i < frames || x.Drops().NoFrame >= uint64(i+1-frames) })
		}
	}
	w.eventually(func() bool { return x.Drops().NoFrame == sent-frames })
	for i, m := range w.read(x, frames) {
		if want := fmt.Sprintf("datagram %d ...........", i); string(m.Buf) != want {
			t.Fatalf("got %q, want %q", m.Buf, want)
		}
	}
	if d := x.Drops(); d.FillEmpty == 0 || d.RingFull != 0 {
		t.Errorf("drops: %+v", d)
	}
	// The frames come back with the next read.
	w.must(x.SetReadDeadline(time.Now().Add(time.Millisecond)))
	if _, err := x.ReadBatch(make([]Message, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the flood is over, and ReadBatch says %v", err)
	}
	send(t, client, Message{Buf: []byte("what comes after the flood"), Remote: to})
	w.read(x, 1)
	before := x.Drops()
	w.must(x.Close())
	if after := x.Drops(); after != before {
		t.Errorf("a closed socket counts %+v, before %+v", after, before)
	}
}

func (w *wire) eventually(ok func() bool) {
	w.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.Fatal("it does not happen")
		}
	}
}

// An idle reader sleeps: it is woken by what comes, and by nothing else.
func TestXSKIdle(t *testing.T) {
	w := newWire(t)
	x := w.socket(0)
	w.register(x)
	client := w.udp(w.far, "192.0.2.2:4000")
	const datagrams = 20
	for i := range uint64(datagrams) {
		w.eventually(func() bool {
			// Asleep: no deadline has passed, so it takes a datagram to wake it.
			return i == 0 || x.rx.available(1) == 0
		})
		send(t, client, Message{Buf: []byte("one datagram after the other"), Remote: netip.MustParseAddrPort("192.0.2.1:7626")})
		w.read(x, 1)
	}
	w.must(x.SetReadDeadline(time.Now().Add(300 * time.Millisecond)))
	start := x.sleeps.Load()
	if _, err := x.ReadBatch(make([]Message, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("nothing came, and ReadBatch says %v", err)
	}
	// One of the wake-ups before may have been left over.
	if n := x.sleeps.Load() - start; n < 1 || n > 2 {
		t.Errorf("in an idle while the reader fell asleep %d times", n)
	}
	if n := x.sleeps.Load(); n > 3*datagrams {
		t.Errorf("for %d datagrams the reader fell asleep %d times", datagrams, n)
	}
}

func TestXSKCloseWakesReader(t *testing.T) {
	w := newWire(t)
	x := w.socket(0)
	errs := make(chan error)
	go func() {
		_, err := x.ReadBatch(make([]Message, 4))
		errs <- err
	}()
	w.eventually(func() bool { return x.sleeps.Load() > 0 })
	w.must(x.Close())
	select {
	case err := <-errs:
		if !errors.Is(err, net.ErrClosed) {
			t.Fatalf("read after Close: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the reader still waits")
	}
	if err := x.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	// The queue is free again, though not at once.
	w.eventually(func() bool {
		err := w.near.Do(func() error {
			y, err := ListenXSK(XSKConfig{Interface: w.ifindex, Port: xskPort, MTU: 1500})
			if err == nil {
				y.Close()
			}
			return err
		})
		if err != nil && !errors.Is(err, unix.EBUSY) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// The interface goes, of which the kernel tells the reader nothing: Close does.
func TestXSKInterfaceGone(t *testing.T) {
	w := newWire(t)
	x := w.socket(0)
	w.register(x)
	errs := make(chan error)
	go func() {
		_, err := x.ReadBatch(make([]Message, 4))
		errs <- err
	}()
	w.eventually(func() bool { return x.sleeps.Load() > 0 })
	w.must(w.far.Do(func() error {
		l, err := netlink.LinkByName("far0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	}))
	w.eventually(func() bool {
		_, err := w.near.Index("near0")
		return err != nil
	})
	w.must(x.Close())
	select {
	case err := <-errs:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the reader still waits")
	}
}

func TestListenXSKErrors(t *testing.T) {
	w := newWire(t)
	w.socket(0)
	for _, tc := range []struct {
		name string
		cfg  XSKConfig
		want error
	}{
		{"a queue in use", XSKConfig{Interface: w.ifindex, MTU: 1500}, unix.EBUSY},
		{"no such queue", XSKConfig{Interface: w.ifindex, Queue: 17, MTU: 1500}, unix.EINVAL},
		{"no such interface", XSKConfig{Interface: 999999, MTU: 1500}, unix.ENODEV},
	} {
		err := w.near.Do(func() error {
			x, err := ListenXSK(tc.cfg)
			if err == nil {
				x.Close()
			}
			return err
		})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, err := ListenXSK(XSKConfig{Frames: 1}); err == nil {
		t.Error("a socket with one frame")
	}
}

func TestXSKAllocations(t *testing.T) {
	w := newWire(t)
	x := w.socket(0)
	w.register(x)
	client := w.udp(w.far, "192.0.2.2:4000")
	out := make([]Message, 16)
	for i := range out {
		out[i] = Message{Buf: make([]byte, 100), Remote: netip.MustParseAddrPort("192.0.2.1:7626")}
	}
	in := make([]Message, 32)
	got := testing.AllocsPerRun(100, func() {
		send(t, client, out...)
		for n := 0; n < len(out); {
			k, err := x.ReadBatch(in)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	})
	if got != 0 {
		t.Errorf("%v allocations for a batch", got)
	}
}

var _ interface {
	SyscallConn() (syscall.RawConn, error)
} = (*XSK)(nil)

// What is sent through the ring comes out at the other end's UDP socket, whose
// stack checks every checksum; what cannot go this way is left to the caller.
func TestXSKSends(t *testing.T) {
	w := newWire(t)
	w.must(w.far.ReceiveXDP("far0"))
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
		allocs := testing.AllocsPerRun(10, func() { x.WriteBatch(out[:10]) })
		if allocs != 0 {
			t.Errorf("%v allocations for a batch", allocs)
		}
	}
	w.must(x.Close())
	if taken := x.WriteBatch([]Message{{Buf: []byte("x")}}); taken != 0 {
		t.Error("a closed socket sends")
	}
}
