// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

const xskPort = 7626

// wire is a veth pair, or two devices (lab.DevicesEnv): an XDP program at one end redirects every UDP datagram to
// the AF_XDP socket of its queue, at the other end is whoever sends.
type wire struct {
	testing.TB
	near, far *lab.Namespace
	ifindex   int
	farIndex  int
	xsks      *ebpf.Map
}

func newWire(t testing.TB) *wire {
	t.Helper()
	testutil.RequirePrivileged(t)
	w := &wire{TB: t}
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
	w.must(w.near.Do(func() error { return w.attach(w.ifindex, xdpPass) }))
	return w
}

func (w *wire) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// What becomes of a datagram for which there is no socket.
const (
	xdpDrop = 1
	xdpPass = 2
)

// attach redirects UDP datagrams and tagged frames, and passes all else.
func (w *wire) attach(ifindex int, otherwise int32) (err error) {
	xsks, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4})
	if err != nil {
		return err
	}
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
		asm.LoadMapPtr(asm.R1, xsks.FD()).WithSymbol("redirect"),
		asm.Mov.Reg(asm.R2, asm.R4),
		asm.Mov.Imm(asm.R3, otherwise),
		asm.FnRedirectMap.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"),
		asm.Return(),
	}})
	if err != nil {
		return fmt.Errorf("%+v", err)
	}
	defer program.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		return err
	}
	w.Cleanup(func() { l.Close(); xsks.Close() })
	if ifindex == w.ifindex {
		w.xsks = xsks
	}
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
	w.must(x.SetReadDeadline(time.Now().Add(patience)))
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
	var sum uint32
	for at := 0; at < ipv4Len; at += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[at:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16)) // a bridge on the way may look
	binary.BigEndian.PutUint16(ip[20:], 4000)
	binary.BigEndian.PutUint16(ip[22:], port)
	binary.BigEndian.PutUint16(ip[24:], uint16(udpLen+len(payload)))
	b = append(append(b, ip...), payload...)
	return append(b, make([]byte, max(0, 60-len(b)))...)
}

func (w *wire) eventually(ok func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.Fatal("it does not happen")
		}
	}
}
