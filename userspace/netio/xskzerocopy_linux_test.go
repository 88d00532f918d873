// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// requireZeroCopy skips the test where no driver has it: vagrant/kernels runs it.
func requireZeroCopy(t *testing.T) {
	t.Helper()
	if !lab.Devices() {
		t.Skip("a veth has no zero-copy: make test-zerocopy runs this over virtio NICs")
	}
}

// With zero-copy a reader that does not read leaves the NIC without frames. What it
// has no room for it drops, or its own queue holds; the frames that come back wake it.
func TestXSKZeroCopyOverrun(t *testing.T) {
	requireZeroCopy(t)
	w := newWire(t)
	const frames, sent = 128, 500
	x := w.socket(frames)
	w.register(x)
	client := w.udp(w.far, "192.0.2.2:4000")
	to := netip.MustParseAddrPort("192.0.2.1:7626")
	for i := range sent {
		send(t, client, Message{Buf: fmt.Appendf(nil, "datagram %5d ......", i), Remote: to})
	}
	w.eventually(func() bool { return x.rx.available(frames) == frames })
	t.Logf("without frames the driver asks to be woken: %v", x.fill.needWakeup()) // else it looks by itself
	got, last := 0, -1
	ms := make([]Message, MaxBatch)
	for quiet := false; !quiet; {
		w.must(x.SetReadDeadline(time.Now().Add(500 * time.Millisecond)))
		n, err := x.ReadBatch(ms)
		if quiet = errors.Is(err, os.ErrDeadlineExceeded); err != nil && !quiet {
			t.Fatal(err)
		}
		for _, m := range ms[:n] {
			var number int
			if _, err := fmt.Sscanf(string(m.Data()), "datagram %d", &number); err != nil || number <= last {
				t.Fatalf("%q behind number %d", m.Data(), last)
			}
			got, last = got+1, number
		}
	}
	if got < frames || got > sent {
		t.Errorf("%d datagrams of %d", got, sent)
	}
	d := x.Drops()
	t.Logf("of %d datagrams %d came, %d of them when there were frames again: %+v", sent, got, got-frames, d)
	if d.FillEmpty == 0 || d.RingFull != 0 || d.NoFrame != 0 {
		t.Errorf("drops: %+v", d)
	}
	send(t, client, Message{Buf: []byte("what comes after the flood"), Remote: to})
	w.read(x, 1)
}

// A batch costs one system call at most, and none while the driver still sends.
func TestXSKZeroCopySystemCalls(t *testing.T) {
	requireZeroCopy(t)
	w := newWire(t)
	x := w.socket(0)
	w.register(x)
	local, remote := netip.MustParseAddrPort("192.0.2.1:7626"), netip.MustParseAddrPort("192.0.2.2:4000")
	peer := w.udp(w.far, remote.String())
	send(t, peer, Message{Buf: []byte("whence the way back is known"), Remote: local})
	link := w.read(x, 1)[0].Link
	calls, kick := 0, x.out.kick
	x.out.kick = func(fd uintptr) { calls++; kick(fd) }
	out := make([]Message, MaxBatch)
	for i := range out {
		out[i] = Message{Buf: make([]byte, 100), Remote: remote, Local: local, Link: link}
	}
	const batches = 50
	for range batches {
		w.eventually(func() bool {
			taken := x.WriteBatch(out)
			readN(t, peer, taken)
			return taken > 0
		})
	}
	t.Logf("%d system calls for %d batches of up to %d", calls, batches, MaxBatch)
	if calls > 2*batches {
		t.Errorf("%d system calls for %d batches", calls, batches)
	}
}

// A socket that is closed under traffic leaves its queue to the next one, and what
// comes in between goes to the UDP socket.
func TestXSKZeroCopyRebind(t *testing.T) {
	requireZeroCopy(t)
	w := newWire(t)
	server, client := w.udp(w.near, "192.0.2.1:7626"), w.udp(w.far, "192.0.2.2:4000")
	for range 3 {
		var x *XSK
		w.eventually(func() bool { // a queue that was closed is free a moment later
			return w.near.Do(func() (err error) {
				x, err = ListenXSK(XSKConfig{Interface: w.ifindex, Port: xskPort, MTU: 1500})
				return err
			}) == nil
		})
		if !x.Info().ZeroCopy {
			t.Error("another socket on the queue has no zero-copy")
		}
		w.register(x)
		send(t, client, Message{Buf: []byte("by the AF_XDP socket........."), Remote: server.LocalAddr()})
		w.read(x, 1)
		w.must(x.Close())
		send(t, client, Message{Buf: []byte("by the UDP socket............"), Remote: server.LocalAddr()})
		readN(t, server, 1)
	}
}
