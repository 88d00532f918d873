// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// patience is what a busy machine may take for what an idle one does at once.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// data is a DATA packet of an id, long enough to be one.
func data(id ID) []byte {
	pkt := make([]byte, 64)
	pkt[0] = 0x0c
	copy(pkt[8:], id[:])
	return pkt
}

func listenReuseport(t *testing.T, addr string) *net.UDPConn {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	// ListenPacket makes the socket on this thread, so in this namespace.
	c, err := lc.ListenPacket(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

func rawConn(t *testing.T, c *net.UDPConn) syscall.RawConn {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Real sockets, the real program: a packet of a session's validated address
// comes to its owner's main socket, one from elsewhere to the candidate socket.
func TestSocketsSteer(t *testing.T) {
	privateNamespaces(t)
	s := createSet(t, 64)
	server := netip.MustParseAddrPort("127.0.0.1:7626")

	sockets := map[string]*net.UDPConn{}
	lanes := []struct {
		name  string
		owner uint16
		lane  Lane
	}{{"main 0", 0, LaneMain}, {"main 1", 1, LaneMain}, {"candidate 1", 1, LaneCandidate}, {"handshake", 0, LaneHandshake}}
	for _, l := range lanes {
		sockets[l.name] = listenReuseport(t, server.String())
	}
	if err := s.Sockets.Attach(rawConn(t, sockets["main 0"])); !errors.Is(err, ErrNoProgram) {
		t.Fatalf("Attach without a program: %v", err)
	}
	programs, err := s.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer programs.XDP.Close()
	if err := s.Sockets.Attach(rawConn(t, sockets["main 0"])); err != nil {
		t.Fatal(err)
	}
	for _, l := range lanes {
		if err := s.Sockets.Register(2, l.owner, l.lane, rawConn(t, sockets[l.name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Listeners.Add(Listener{Addr: server, Index: 2}); err != nil {
		t.Fatal(err)
	}

	client := listenReuseport(t, "127.0.0.1:0")
	id, _, err := s.Sessions.Allocate(KindROAM, 1)
	if err != nil {
		t.Fatal(err)
	}
	send := func(pkt []byte, want string) {
		t.Helper()
		if _, err := client.WriteToUDPAddrPort(pkt, server); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2048)
		for name, c := range sockets {
			wait := time.Millisecond
			if name == want {
				wait = patience
			}
			_ = c.SetReadDeadline(time.Now().Add(wait))
			n, _, err := c.ReadFromUDPAddrPort(buf)
			if got := err == nil && bytes.Equal(buf[:n], pkt); got != (name == want) {
				t.Errorf("socket %q: got the packet: %v, want it at %q", name, got, want)
			}
		}
	}
	before := s.Counters.Read()
	send(data(id), "candidate 1")
	if err := s.Sessions.Commit(id, client.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	send(data(id), "main 1")
	if err := s.Sessions.SetOwner(id, 0); err != nil {
		t.Fatal(err)
	}
	send(data(id), "main 0")
	if err := s.Sessions.Retire(id); err != nil {
		t.Fatal(err)
	}
	send(data(id), "handshake")
	forged := id
	forged[15] ^= 1
	send(data(forged), "nowhere")

	var got Snapshot
	eventually(t, "the last packet is counted", func() bool {
		got = s.Counters.Read().Sub(before)
		return got.Packets[StageSocket][ReasonIDForged] > 0
	})
	for reason, want := range map[Reason]uint64{ReasonCandidate: 1, ReasonMain: 2, ReasonReset: 1, ReasonIDForged: 1} {
		if n := got.Packets[StageSocket][reason]; n != want {
			t.Errorf("counter %v: %d, want %d", reason, n, want)
		}
	}
	if counts := got.Counts(); len(counts) != 4 {
		t.Errorf("counters that moved: %+v, want 4", counts)
	}

	// Another socket for a lane, and closed ones.
	spare := listenReuseport(t, server.String())
	if err := s.Sockets.Register(2, 0, LaneMain, rawConn(t, spare)); err != nil {
		t.Errorf("registering another socket for a lane: %v", err)
	}
	sockets["handshake"].Close()
	list, err := s.Sockets.List()
	if err != nil {
		t.Fatalf("List: %+v, %v", list, err)
	}
	// The closed one has left by itself; the replaced one's place is free for it elsewhere.
	if want := []LaneSocket{lanePlace(0, LaneMain), lanePlace(1, LaneMain), lanePlace(1, LaneCandidate)}; !slices.EqualFunc(list, want, samePlace) {
		t.Errorf("List: %+v, want %+v", list, want)
	}
	if err := s.Sockets.Register(2, MaxWorkers-1, LaneSink, rawConn(t, sockets["main 0"])); err != nil {
		t.Errorf("registering the replaced one for another lane: %v", err)
	}
	if list, err := s.Sockets.List(); err != nil || len(list) != 4 || !samePlace(list[3], lanePlace(MaxWorkers-1, LaneSink)) {
		t.Errorf("List: %+v, %v", list, err)
	}
	for range 2 { // none is no error
		if err := s.Sockets.Unregister(2, 0, LaneMain); err != nil {
			t.Error(err)
		}
	}
	if err := s.Sockets.Register(2, 0, LaneCandidate, rawConn(t, spare)); err != nil {
		t.Errorf("registering an unregistered one: %v", err)
	}
}

func lanePlace(owner uint16, lane Lane) LaneSocket {
	return LaneSocket{Listener: 2, Owner: owner, Lane: lane}
}

func samePlace(a, b LaneSocket) bool {
	return a.Listener == b.Listener && a.Owner == b.Owner && a.Lane == b.Lane && a.Cookie != 0
}

// A drop at the socket stage is silent with a sink. (Without one the kernel
// answers with ICMP, and a connected client reads ECONNREFUSED.)
func TestSinkIsSilent(t *testing.T) {
	privateNamespaces(t)
	s := createSet(t, 64)
	programs, err := s.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer programs.XDP.Close()
	for i, server := range []string{"127.0.0.1:7626", "[::1]:7627", "[::]:7628"} {
		addr := netip.MustParseAddrPort(server)
		listener := uint16(i)
		c := rawConn(t, listenReuseport(t, server))
		if err := errors.Join(s.Sockets.Attach(c), s.Sockets.Register(listener, 0, LaneMain, c), s.Listeners.Add(Listener{Addr: addr, Index: listener})); err != nil {
			t.Fatal(err)
		}
		refused := func(within time.Duration) bool {
			t.Helper()
			to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port())
			if !addr.Addr().IsUnspecified() {
				to = addr
			}
			client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Write(data(ID{15: 1})); err != nil {
				t.Fatal(err)
			}
			_ = client.SetReadDeadline(time.Now().Add(within))
			_, err = client.Read(make([]byte, 1))
			return errors.Is(err, unix.ECONNREFUSED)
		}
		if !refused(patience) {
			t.Errorf("%s: without a sink nothing is refused: the test shows nothing", server)
		}
		sink, err := s.Sockets.Sink(listener, c)
		if err != nil {
			t.Fatal(err)
		}
		if refused(50 * time.Millisecond) {
			t.Errorf("%s: refused in spite of the sink", server)
		}
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
		if !refused(patience) {
			t.Errorf("%s: the closed sink still takes packets", server)
		}
	}
	eventually(t, "all 9 forged ids are counted", func() bool {
		return s.Counters.Read().Packets[StageSocket][ReasonIDForged] == 9
	})
}

func TestRegisterRefusesAnUnboundSocket(t *testing.T) {
	privateNamespaces(t)
	s := createSet(t, 64)
	c := listenReuseport(t, "127.0.0.1:7626")
	if err := s.Sockets.Register(0, 0, LaneMain, rawConn(t, c)); err != nil {
		t.Fatal(err)
	}
	for _, out := range []error{
		s.Sockets.Register(MaxGroups, 0, LaneMain, rawConn(t, c)), s.Sockets.Register(0, MaxWorkers, LaneMain, rawConn(t, c)),
		s.Sockets.Unregister(0, 0, maxLanes), s.Listeners.Add(Listener{Addr: netip.MustParseAddrPort("127.0.0.1:7626"), Index: MaxGroups}),
	} {
		if !errors.Is(out, ErrSocketRange) {
			t.Errorf("beyond the map: %v, want ErrSocketRange", out)
		}
	}
	// One socket, two lanes: the kernel has one index for it.
	if err := s.Sockets.Register(0, 0, LaneCandidate, rawConn(t, c)); !errors.Is(err, unix.EBUSY) {
		t.Errorf("the same socket for two lanes: %v, want EBUSY", err)
	}
	plain, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := s.Sockets.Register(0, 1, LaneMain, rawConn(t, plain.(*net.UDPConn))); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a socket without SO_REUSEPORT: %v, want EINVAL", err)
	}
}
