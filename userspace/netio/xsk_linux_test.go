// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

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
	if x.Info().ZeroCopy != lab.Devices() {
		t.Errorf("zero-copy: %v", x.Info().ZeroCopy)
	}
}

// Frames with VLAN tags come as they are, and what is not for our port is counted.
func TestXSKFrames(t *testing.T) {
	if lab.Devices() {
		t.Skip("frames made by hand do not get past the bridge between the devices, nor tags of no VLAN past qemu")
	}
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
	if lab.Devices() {
		t.Skip("with zero-copy the NIC waits for frames, or drops: TestXSKZeroCopyOverrun")
	}
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
	case <-time.After(patience):
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
	if lab.Devices() {
		t.Skip("a device that is there cannot be removed")
	}
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
	case <-time.After(patience):
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
