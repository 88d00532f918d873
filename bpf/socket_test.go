// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// sk_reuseport programs have no test run: these tests send real datagrams to a
// real group of sockets, in a network namespace of their own.

const (
	groupPort = 7626
	owners    = 2
)

// socketKey is how the tests name a socket of the group.
type socketKey struct {
	owner uint16
	lane  bpf.RoamRoamLane
}

// index is the socket's place in the map of group 0.
func (k socketKey) index() uint32 { return uint32(k.owner)*8 + uint32(k.lane) }

// group is a reuseport group under roam_socket: a main and a candidate socket
// for each owner, one handshake socket, and one that no lane names.
type group struct {
	*plane
	sockets map[socketKey]int
	extra   int
}

var handshakeSocket = socketKey{0, bpf.RoamRoamLaneROAM_LANE_HANDSHAKE}

// enterNamespace moves this test's thread into a fresh network namespace with
// its loopback up. The thread ends with the test.
func enterNamespace(p *plane) {
	p.t.Helper()
	p.must(unix.Unshare(unix.CLONE_NEWNET))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	p.must(err)
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	p.must(err)
	lo.SetUint16(unix.IFF_UP)
	p.must(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}

// inNamespace runs f on a thread that is thrown away, with its namespace.
func inNamespace(t *testing.T, f func(p *plane)) {
	p := newPlane(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		sub := *p
		sub.pin() // never unlocked: Go ends the thread with the goroutine
		enterNamespace(&sub)
		f(&sub)
	}()
	<-done
}

func newGroup(p *plane) *group {
	p.t.Helper()
	g := &group{plane: p, sockets: map[socketKey]int{}}
	g.extra = g.open()
	p.must(unix.SetsockoptInt(g.extra, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, p.objs.RoamSocket.FD()))
	register := func(k socketKey) {
		fd := g.open()
		g.sockets[k] = fd
		p.must(p.objs.Sockets.Put(k.index(), uint64(fd)))
	}
	for owner := range uint16(owners) {
		register(socketKey{owner, bpf.RoamRoamLaneROAM_LANE_MAIN})
		register(socketKey{owner, bpf.RoamRoamLaneROAM_LANE_CANDIDATE})
	}
	register(handshakeSocket)
	for _, a := range []string{"127.0.0.1", "::1"} {
		p.listen(netip.AddrPortFrom(netip.MustParseAddr(a), groupPort), 0, 0)
	}
	return g
}

// open makes a dual-stack socket of the group.
func (g *group) open() int {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	g.must(err)
	g.must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	g.must(unix.Bind(fd, &unix.SockaddrInet6{Port: groupPort}))
	return fd
}

// close drops every socket: the map forgets them by itself.
func (g *group) close() {
	for _, fd := range g.sockets {
		unix.Close(fd)
	}
	unix.Close(g.extra)
}

// sender is a client's socket on a loopback address.
type sender struct {
	fd   int
	addr netip.AddrPort
}

func (g *group) sender(addr string) sender {
	g.t.Helper()
	a := netip.MustParseAddr(addr)
	s := sender{}
	var err error
	if a.Is4() {
		s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		g.must(err)
		g.must(unix.Bind(s.fd, &unix.SockaddrInet4{Addr: a.As4()}))
		local, err := unix.Getsockname(s.fd)
		g.must(err)
		s.addr = netip.AddrPortFrom(a, uint16(local.(*unix.SockaddrInet4).Port))
		g.must(unix.Connect(s.fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: groupPort}))
		return s
	}
	s.fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	g.must(err)
	g.must(unix.Bind(s.fd, &unix.SockaddrInet6{Addr: a.As16()}))
	local, err := unix.Getsockname(s.fd)
	g.must(err)
	s.addr = netip.AddrPortFrom(a, uint16(local.(*unix.SockaddrInet6).Port))
	g.must(unix.Connect(s.fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), Port: groupPort}))
	return s
}

// send sends one datagram and says what it was counted as; it insists on one
// counter of the socket stage: loopback delivers on the sender's CPU.
func (g *group) send(s sender, payload []byte) bpf.RoamRoamReason {
	g.t.Helper()
	before := g.counters()
	_, err := unix.Write(s.fd, payload)
	if errors.Is(err, unix.ECONNREFUSED) { // of the datagram before: see TestSocketSink
		_, err = unix.Write(s.fd, payload)
	}
	g.must(err)
	reason, err := countedOnce(before, g.counters(), stageSocket)
	// The loopback delivers within the write, unless the machine is so busy that
	// ksoftirqd takes over; then the socket has the datagram right after the count.
	for late := 0; err != nil && late < 3000; late++ {
		time.Sleep(10 * time.Millisecond)
		reason, err = countedOnce(before, g.counters(), stageSocket)
	}
	if err != nil {
		g.t.Errorf("%v: payload %.80x", err, payload)
	}
	return reason
}

// await is receiver for a datagram that must come: on a busy machine a moment after
// it was counted.
func (g *group) await(payload []byte) (key socketKey, extra, ok bool) {
	g.t.Helper()
	for late := 0; late < 3000; late++ {
		if key, extra, ok = g.receiver(payload); ok {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return key, extra, ok
}

// receiver finds the socket that a datagram has come to; ok is false if to none.
func (g *group) receiver(payload []byte) (key socketKey, extra, ok bool) {
	g.t.Helper()
	read := func(fd int) bool {
		b := make([]byte, 65536)
		n, err := unix.Read(fd, b)
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		g.must(err)
		if string(b[:n]) != string(payload) {
			g.t.Errorf("received %.80x, sent %.80x", b[:n], payload)
		}
		return true
	}
	for k, fd := range g.sockets {
		if read(fd) {
			if ok {
				g.t.Error("two sockets received it")
			}
			key, ok = k, true
		}
	}
	if read(g.extra) {
		if ok {
			g.t.Error("two sockets received it")
		}
		extra, ok = true, true
	}
	return key, extra, ok
}

func TestSocketStage(t *testing.T) {
	inNamespace(t, func(p *plane) {
		g := newGroup(p)
		defer g.close()
		p.setHandshake(policyNever)
		r := newRand(t)
		for _, addr := range []string{"127.0.0.1", "::1"} {
			home, away := g.sender(addr), g.sender(addr)
			defer unix.Close(home.fd)
			defer unix.Close(away.fd)
			id := func(slot uint32, serverID uint16) sessionID { return newID(r, slot, 0, serverID) }
			first, second := id(1, testServerID), id(2, testServerID)
			unknown, forged := id(3, testServerID), id(1, testServerID+1)
			roam := bpf.RoamRoamKindROAM_KIND_ROAM
			p.store(session{id: first, kind: roam, owner: 0, path: home.addr})
			p.store(session{id: second, kind: roam, owner: 1, path: home.addr})
			lane := func(owner uint16, lane bpf.RoamRoamLane) *socketKey { return &socketKey{owner, lane} }
			main, candidate := bpf.RoamRoamLaneROAM_LANE_MAIN, bpf.RoamRoamLaneROAM_LANE_CANDIDATE
			for _, tt := range []struct {
				name    string
				from    sender
				payload []byte
				reason  bpf.RoamRoamReason
				socket  *socketKey // nil: dropped
			}{
				{"main, owner 0", home, dataPacket(first), reasonMain, lane(0, main)},
				{"main, owner 1", home, dataPacket(second), reasonMain, lane(1, main)},
				{"large, paged", home, append(dataPacket(second), make([]byte, 40000)...), reasonMain, lane(1, main)},
				{"candidate, owner 0", away, dataPacket(first), reasonCandidate, lane(0, candidate)},
				{"candidate, owner 1", away, dataPacket(second), reasonCandidate, lane(1, candidate)},
				{"reset", home, dataPacket(unknown), reasonReset, &handshakeSocket},
				{"forged", home, dataPacket(forged), reasonForged, nil},
				{"short", home, dataPacket(first)[:40], reasonShort, nil},
				{"empty", home, nil, reasonShort, nil},
				{"one byte", home, []byte{0x0c}, reasonShort, nil},
				{"INIT", home, initPacket(), reasonInit, &handshakeSocket},
				{"INIT, short", home, initPacket()[:1199], reasonInitMalformed, nil},
				// A train of GRO may be longer: the socket judges that.
				{"INIT, long", home, append(initPacket(), 0), reasonInit, &handshakeSocket},
				{"INIT, reserved byte", home, reserved(2), reasonInitMalformed, nil},
				{"INIT, version 2", home, version(2), reasonInitVersion, &handshakeSocket},
				{"INIT, wrong mac1", home, reserved(60), reasonMAC1, nil},
				{"RETRY", home, starting(0x09, 40), reasonDirection, nil},
				{"grease", home, starting(0x0e, 40), reasonGrease, nil},
				{"STUN", home, starting(0x00, 20), reasonUnknown, nil},
				{"QUIC", home, quicLong(make([]byte, 8)), reasonUnserved, nil},
				{"QUIC, forged", home, quicShort(forged), reasonForged, nil},
				{"QUIC, truncated", home, quicShort(first)[:16], reasonShort, nil},
				{"DTLS", home, starting(22, 60), reasonUnserved, nil},
			} {
				reason := g.send(tt.from, tt.payload)
				receiver := g.await
				if tt.socket == nil {
					receiver = g.receiver
				}
				key, extra, ok := receiver(tt.payload)
				if reason != tt.reason {
					t.Errorf("%s %s: reason %d, want %d", addr, tt.name, reason, tt.reason)
				}
				switch {
				case tt.socket == nil && ok:
					t.Errorf("%s %s: delivered to %v (extra %t), want a drop", addr, tt.name, key, extra)
				case tt.socket != nil && (!ok || extra || key != *tt.socket):
					t.Errorf("%s %s: delivered %t to %v (extra %t), want %v", addr, tt.name, ok, key, extra, *tt.socket)
				}
			}
		}
	})
}

func starting(first byte, n int) []byte {
	b := make([]byte, n)
	b[0] = first
	return b
}

// Without a socket for its lane a packet goes to the handshake socket, and
// where there is no telling the listener, where the kernel's hash says.
func TestSocketUnsteered(t *testing.T) {
	inNamespace(t, func(p *plane) {
		g := newGroup(p)
		defer g.close()
		home := g.sender("127.0.0.1")
		defer unix.Close(home.fd)
		id := newID(newRand(t), 1, 0, testServerID)
		listed := true
		expect := func(what string, want bpf.RoamRoamReason) {
			t.Helper()
			payload := dataPacket(id)
			if got := g.send(home, payload); got != want {
				t.Errorf("%s: reason %d, want %d", what, got, want)
			}
			key, _, ok := g.await(payload)
			if !ok {
				t.Errorf("%s: not delivered", what)
			}
			if want == reasonUnsteered && listed && key != handshakeSocket {
				t.Errorf("%s: delivered to %v, want the handshake socket", what, key)
			}
		}
		p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, owner: 77, path: home.addr})
		expect("owner without sockets", reasonUnsteered)
		p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, owner: 1, path: home.addr})
		expect("owner with sockets", reasonMain)
		main := socketKey{1, bpf.RoamRoamLaneROAM_LANE_MAIN}
		unix.Close(g.sockets[main])
		delete(g.sockets, main)
		expect("socket closed", reasonUnsteered)

		p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, owner: 0, path: home.addr})
		p.listenAt(listenerHash(mapped(netip.MustParseAddr("127.0.0.1")), networkOrder(groupPort)), bpf.RoamRoamListener{})
		listed = false
		expect("address not listed", reasonUnsteered)
		p.listen(netip.AddrPortFrom(netip.IPv6Unspecified(), groupPort), 0, 0)
		expect("any address listed", reasonMain)
	})
}

// A drop without a sink is answered by the kernel with ICMP, with one in silence.
func TestSocketSink(t *testing.T) {
	inNamespace(t, func(p *plane) {
		g := newGroup(p)
		defer g.close()
		forged := newID(newRand(t), 1, 0, testServerID+1)
		for _, addr := range []string{"127.0.0.1", "::1"} {
			home := g.sender(addr)
			defer unix.Close(home.fd)
			answered := func() bool {
				if got := g.send(home, dataPacket(forged)); got != reasonForged {
					t.Errorf("reason %d, want %d", got, reasonForged)
				}
				pending, err := unix.GetsockoptInt(home.fd, unix.SOL_SOCKET, unix.SO_ERROR)
				g.must(err)
				return pending == int(unix.ECONNREFUSED)
			}
			ok := answered()
			for end := time.Now().Add(30 * time.Second); !ok && time.Now().Before(end); { // the answer to one before may be late
				ok = answered()
			}
			if !ok {
				t.Errorf("%s: no ICMP: the kernel no longer needs a sink", addr)
			}
			g.sink(true)
			if answered() {
				t.Errorf("%s: a drop was answered", addr)
			}
			g.sink(false)
		}
	})
}

// sink adds a socket that lets nothing in, or takes it away.
func (g *group) sink(on bool) {
	g.t.Helper()
	key := socketKey{0, bpf.RoamRoamLaneROAM_LANE_SINK}
	if !on {
		unix.Close(g.sockets[key])
		delete(g.sockets, key)
		return
	}
	fd := g.open()
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	g.must(unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: 1, Filter: &nothing[0]}))
	g.must(g.objs.Sockets.Put(key.index(), uint64(fd)))
	g.sockets[key] = fd
}

// Datagrams in fragments are put together by the stack and judged here.
func TestSocketFragments(t *testing.T) {
	inNamespace(t, func(p *plane) {
		g := newGroup(p)
		defer g.close()
		g.loopbackMTU(1280)
		home := g.sender("::1")
		defer unix.Close(home.fd)
		id := newID(newRand(t), 1, 0, testServerID)
		p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, owner: 1, path: home.addr})
		payload := append(dataPacket(id), make([]byte, 5000)...)
		if got := g.send(home, payload); got != reasonMain {
			t.Errorf("reason %d, want %d", got, reasonMain)
		}
		if key, _, ok := g.receiver(payload); !ok || key != (socketKey{1, bpf.RoamRoamLaneROAM_LANE_MAIN}) {
			t.Errorf("delivered %t to %v", ok, key)
		}
	})
}

// The socket stage has buckets of its own, of twice the rate and depth.
func TestSocketBuckets(t *testing.T) {
	inNamespace(t, func(p *plane) {
		g := newGroup(p)
		defer g.close()
		p.setHandshake(policyAuto)
		home := g.sender("127.0.0.1")
		defer unix.Close(home.fd)
		id := newID(newRand(t), 1, 0, testServerID)
		count := func(payload []byte, want bpf.RoamRoamReason) (n int) {
			for range 20 {
				if g.send(home, payload) == want {
					n++
				}
				g.receiver(payload)
			}
			return n
		}
		roam := bpf.RoamRoamKindROAM_KIND_ROAM
		for _, tt := range []struct {
			name     string
			limit    func(l *bpf.RoamRoamLimits)
			payload  []byte
			want     bpf.RoamRoamReason
			rest     bpf.RoamRoamReason
			slotFlag uint8
			path     netip.AddrPort
		}{
			{"candidate, CPU", func(l *bpf.RoamRoamLimits) { l.CandidateBurst = 3 }, dataPacket(id), reasonCandidate, reasonCandidateLimit, 0, server4},
			{"candidate, slot", func(l *bpf.RoamRoamLimits) { l.SlotCandidateBurst = 3 }, dataPacket(id), reasonCandidate, reasonCandidateLimit, 0, server4},
			{"main, policed", func(l *bpf.RoamRoamLimits) { l.SlotCandidateBurst = 3 }, dataPacket(id), reasonMain, reasonMainLimit, 1, home.addr},
			{"handshake", func(l *bpf.RoamRoamLimits) { l.HandshakeBurst = 3 }, initPacket(), reasonInit, reasonHandshakeLimit, 0, home.addr},
			{"cookies", func(l *bpf.RoamRoamLimits) { l.UncookiedBurst = 3 }, initPacket(), reasonInit, reasonInitSlow, 0, home.addr},
			{"RETRY", func(l *bpf.RoamRoamLimits) { l.UncookiedBurst, l.SlowBurst = 0, 3 }, initPacket(), reasonInitSlow, reasonSlowLimit, 0, home.addr},
			{"reset", func(l *bpf.RoamRoamLimits) { l.ResetBurst = 3 }, dataPacket(newID(newRand(t), 9, 0, testServerID)), reasonReset, reasonResetLimit, 0, home.addr},
			{"version", func(l *bpf.RoamRoamLimits) { l.VersionBurst = 3 }, version(9), reasonInitVersion, reasonVersionLimit, 0, home.addr},
		} {
			limits := p.cfg.Limits
			p.forget()
			p.store(session{id: id, kind: roam, flags: tt.slotFlag, path: tt.path})
			p.configure(func(c *bpf.RoamRoamConfig) { tt.limit(&c.Limits) })
			if n := count(tt.payload, tt.want); n != 6 {
				t.Errorf("%s: %d of 20 passed, want 6", tt.name, n)
			}
			if got := g.counters()[stageSocket][tt.rest]; got != 14 {
				t.Errorf("%s: %d counted under reason %d, want 14", tt.name, got, tt.rest)
			}
			p.configure(func(c *bpf.RoamRoamConfig) { c.Limits = limits })
		}
	})
}

// A cookie in the address's name counts at the socket stage as in XDP.
func TestSocketCookie(t *testing.T) {
	inNamespace(t, func(p *plane) {
		g := newGroup(p)
		defer g.close()
		p.setHandshake(policyAlways)
		home := g.sender("127.0.0.1")
		defer unix.Close(home.fd)
		server := netip.MustParseAddrPort("127.0.0.1:7626")
		good := withCookie(initPacket(), testTime, home.addr, server)
		for _, tt := range []struct {
			payload []byte
			want    bpf.RoamRoamReason
		}{{good, reasonInitCookie}, {initPacket(), reasonInitSlow}} {
			if got := g.send(home, tt.payload); got != tt.want {
				t.Errorf("reason %d, want %d", got, tt.want)
			}
			if key, _, ok := g.receiver(tt.payload); !ok || key != handshakeSocket {
				t.Errorf("delivered %t to %v", ok, key)
			}
		}
	})
}
