// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestSendDatagrams(t *testing.T) {
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "hello")
	var ds [][]byte
	for i := range 3*batchSize + 5 {
		size := 100
		if i%7 == 0 {
			size = 1 + i*13%3000 // some in parts
		}
		ds = append(ds, bytes.Repeat([]byte{byte(i)}, size))
	}
	if n, err := s.SendDatagrams(ds); n != len(ds) || err != nil {
		t.Fatalf("%d of %d, %v", n, len(ds), err)
	}
	for i, d := range ds {
		if got := c.receive(); got != string(d) {
			t.Fatalf("datagram %d: %d bytes, want %d", i, len(got), len(d))
		}
	}

	// What is too large stops those behind it and no other.
	before := srv.Stats().DatagramsTooLarge
	ds[batchSize+2] = make([]byte, 5000)
	if n, err := s.SendDatagrams(ds[:batchSize+9]); n != batchSize+2 || !errors.Is(err, ErrTooLarge) {
		t.Errorf("with one too large: %d, %v", n, err)
	}
	if n := srv.Stats().DatagramsTooLarge - before; n != 1 {
		t.Errorf("%d counted as too large", n)
	}
	for i := range batchSize + 2 {
		if got := c.receive(); got != string(ds[i]) {
			t.Fatalf("datagram %d: %d bytes", i, len(got))
		}
	}
	if n, err := s.SendDatagrams(nil); n != 0 || err != nil {
		t.Errorf("none: %d, %v", n, err)
	}
	s.Close(wire.CloseDone, "")
	var closed *ClosedError
	if n, err := s.SendDatagrams(ds); n != 0 || !errors.As(err, &closed) {
		t.Errorf("closed: %d, %v", n, err)
	}
}

// newSink returns a session whose client takes datagrams of size in one packet, and
// then never reads again: what is sent to it ends at its socket.
func newSink(t testing.TB, size int) *Session {
	t.Helper()
	srv := listen(t, nil)
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	eventually(t, "the path's MTU is known", func() bool {
		if err := s.SendDatagram(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		return s.Info().MTU >= size+wire.MinData
	})
	local := c.sockets[0].conn.LocalAddr()
	c.sockets[0].conn.Close()
	// A socket that takes trains whole, as a NIC would.
	sink, err := netio.ListenUDP(netio.Config{Addr: local, ReadBuffer: 1, GRO: runtime.GOOS == "linux"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	return s
}

func TestSendDatagramsAllocatesNothing(t *testing.T) {
	if testutil.Race {
		t.Skip("under the race detector sync.Pool forgets at random")
	}
	s := newSink(t, 1400)
	ds := make([][]byte, batchSize)
	for i := range ds {
		ds[i] = make([]byte, 1400)
	}
	send := func() {
		if n, err := s.SendDatagrams(ds); n != len(ds) || err != nil {
			t.Fatal(n, err)
		}
	}
	for range 10 {
		send()
	}
	if n := testing.AllocsPerRun(200, send) / batchSize; n > 0.02 { // timers, others' tests
		t.Errorf("%v allocations for each datagram", n)
	}
}

// BenchmarkSend is all that a datagram costs its sender, the system call included,
// up to the socket of a client on the same host.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{64, 1400} {
		for _, batch := range []int{1, 16, batchSize} {
			b.Run(fmt.Sprintf("%dB/%d", size, batch), func(b *testing.B) {
				s := newSink(b, size)
				ds := make([][]byte, batch)
				for i := range ds {
					ds[i] = make([]byte, size)
				}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.SendDatagrams(ds); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/datagram")
			})
		}
	}
}

// TestTrain sends what a kernel without UDP_GRO would take for single packets: with
// it they come as one, and the session gets each of them. One in the midst of them
// is forged.
func TestTrain(t *testing.T) {
	for _, off := range []bool{false, true} {
		srv := listen(t, func(c *Config) { c.NoGRO = off })
		c := dial(t, srv, "127.0.0.1", nil)
		s := accept(t, srv)
		talk(t, s, c, "hello")
		const n, forged = 40, 17
		var ms []netio.Message
		c.mu.Lock()
		var out session.Output
		for i := range n {
			if err := c.state.Send(c.now(), fmt.Appendf(nil, "number %02d", i), &out); err != nil {
				t.Fatal(err)
			}
		}
		for i, p := range out.Packets {
			if i == forged {
				p.Data[len(p.Data)-1] ^= 1
			}
			ms = append(ms, netio.Message{Buf: p.Data, Remote: p.Path.Remote})
		}
		if sent, err := c.sockets[0].conn.WriteBatch(ms); sent != n || err != nil {
			t.Fatalf("%d sent, %v", sent, err)
		}
		c.mu.Unlock()
		for i := range n {
			if want := fmt.Sprintf("number %02d", i); i == forged {
				continue
			} else if got := receive(t, s); got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
		count(t, srv, AuthFailed, 1)
		srv.Close()
		trains := false
		for _, r := range srv.readers {
			trains = trains || cap(r.parts) > 0
		}
		if want := !off && runtime.GOOS == "linux"; trains != want {
			t.Errorf("NoGRO %v: packets came in trains: %v", off, trains)
		}
	}
}
