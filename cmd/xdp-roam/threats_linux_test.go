// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Rows of docs/THREATS.md whose attacker is on a network of his own, against this
// binary with XDP. What is asserted is counted; how fast it all goes under a flood
// is a benchmark's matter, not a test's.

// packet is a UDP packet over IPv4 as it was seen or is to be sent.
type packet struct {
	src, dst netip.AddrPort
	payload  []byte
}

// frame is the packet inside an Ethernet frame, without a UDP checksum.
func (p packet) frame() []byte {
	b := slices.Concat(lab.AttackerGateway[:], lab.AttackerMAC[:], []byte{8, 0, 0x45, 0})
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(p.payload)))
	b = append(b, 0, 0, 0x40, 0, 64, syscall.IPPROTO_UDP, 0, 0)
	b = slices.Concat(b, p.src.Addr().AsSlice(), p.dst.Addr().AsSlice())
	var sum uint32
	for i := 14; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[24:], ^uint16(sum+sum>>16))
	b = binary.BigEndian.AppendUint16(b, p.src.Port())
	b = binary.BigEndian.AppendUint16(b, p.dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(p.payload)))
	return slices.Concat(b, []byte{0, 0}, p.payload)
}

// parseFrame is the other way; nil for what is no UDP over IPv4.
func parseFrame(b []byte) *packet {
	if len(b) < 42 || b[12] != 8 || b[13] != 0 || b[14] != 0x45 || b[23] != syscall.IPPROTO_UDP {
		return nil
	}
	length := int(binary.BigEndian.Uint16(b[38:]))
	if length < 8 || 34+length > len(b) {
		return nil
	}
	return &packet{
		netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[26:])), binary.BigEndian.Uint16(b[34:])),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[30:])), binary.BigEndian.Uint16(b[36:])),
		slices.Clone(b[42 : 34+length]),
	}
}

// tap collects what passes on a link.
type tap struct {
	mu      sync.Mutex
	packets []packet
}

func newTap(t *testing.T, n *lab.Namespace, link string) *tap {
	t.Helper()
	f, err := n.OpenPacket(link, lab.EtherAll)
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for b := make([]byte, 2048); ; {
			n, err := f.Read(b)
			if err != nil {
				return
			}
			if seen := parseFrame(b[:n]); seen != nil {
				p.mu.Lock()
				p.packets = append(p.packets, *seen)
				p.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { f.Close(); <-ended })
	return p
}

func (p *tap) seen() []packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.packets)
}

// siege is a client behind a NAT with an open session, its edge, and an attacker
// elsewhere who may send under any address.
type siege struct {
	*labBench
	net      *lab.Topology
	server   netip.AddrPort
	program  *net.UDPConn // of the client's user
	wire     *os.File     // the attacker's
	attacker netip.AddrPort
	sniffed  *tap // the client's network A, at the core
	toEdge   *tap // the edge's link
}

func newSiege(t *testing.T, run ...string) *siege {
	t.Helper()
	testutil.RequirePrivileged(t)
	t.Parallel()
	topology, err := lab.NewTopology()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topology.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &siege{net: topology, server: netip.AddrPortFrom(lab.EdgeV4, wire.DefaultPort), attacker: netip.AddrPortFrom(lab.AttackerV4, 6666)}
	s.labBench = &labBench{t: t, edge: topology.Edge, client: topology.Client, directory: t.TempDir(), serverKey: handshake.NewPrivateKey(), clientKey: handshake.NewPrivateKey()}
	s.writeFiles()
	if err := s.edge.OwnMounts(); err != nil {
		t.Fatal(err)
	}
	if err := topology.A.Join(100); err != nil {
		t.Fatal(err)
	}
	s.sniffed, s.toEdge = newTap(t, topology.Core, topology.A.Tap), newTap(t, topology.Core, "edge")
	if s.wire, err = topology.Attacker.OpenPacket(lab.AttackerLink, lab.EtherNone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.wire.Close() })
	s.startEdge(append([]string{"--mode", "xdp", "--interface", lab.EdgeLink}, run...)...)
	s.connect("-L", "5007:7")
	s.program = s.labBench.program(5007)
	ask(t, s.program, "before")
	return s
}

func (s *siege) connect(args ...string) *process {
	s.t.Helper()
	p := s.start(s.client, append([]string{
		"connect", lab.EdgeV4.String(), "--server-key", s.serverKey.Public().String(), "--identity", s.labBench.path("client.key"), "--udp",
	}, args...)...)
	p.waitFor("forwards to service")
	return p
}

// send puts packets on the attacker's wire. What the queue refuses is lost.
func (s *siege) send(packets ...packet) {
	s.t.Helper()
	for _, p := range packets {
		if _, err := s.wire.Write(p.frame()); err != nil && !strings.Contains(err.Error(), "no buffer space") {
			s.t.Fatal(err)
		}
	}
}

// anyone is an address that nobody has (RFC 2544).
func anyone() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(rand.IntN(256)), byte(1 + rand.IntN(254))}), uint16(1024+rand.IntN(60000)))
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// flood sends what next makes until at least n packets have the reason at XDP, and
// has the client's program ask all the while: each question is answered.
func (s *siege) flood(reason string, n uint64, next func() packet) {
	s.t.Helper()
	start := s.count("xdp", reason)
	for deadline := time.Now().Add(patience); ; {
		for range 2 {
			for range 2000 { // more than a bucket holds
				s.send(next())
			}
			ask(s.t, s.program, "during")
		}
		if s.count("xdp", reason) >= start+n {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d packets were counted as %s:\n%+v", s.count("xdp", reason)-start, n, reason, items[control.Counter](s.labBench, "stats"))
		}
	}
}

// count is a counter of `stats`.
func (s *siege) count(stage, reason string) uint64 {
	s.t.Helper()
	for _, c := range items[control.Counter](s.labBench, "stats") {
		if c.Stage == stage && c.Reason == reason {
			return c.Value
		}
	}
	return 0
}

// steady checks that the session is where it was and that no slot has changed.
func (s *siege) steady(what string, do func()) {
	s.t.Helper()
	session := func() (netip.AddrPort, uint64, []slotItem) {
		list := items[control.Session](s.labBench, "session", "list")
		if len(list) != 1 {
			s.t.Fatalf("%s: sessions %+v", what, list)
		}
		slots := items[slotItem](s.labBench, "map", "dump", "slots")
		slices.SortFunc(slots, func(a, b slotItem) int { return strings.Compare(a.ID, b.ID) })
		return list[0].Remote, list[0].Moves, slots
	}
	remote, moves, slots := session()
	do()
	ask(s.t, s.program, "after")
	remoteNow, movesNow, slotsNow := session()
	if remoteNow != remote || movesNow != moves {
		s.t.Errorf("%s: the session was at %s after %d moves, is at %s after %d", what, remote, moves, remoteNow, movesNow)
	}
	if !slices.Equal(slots, slotsNow) {
		s.t.Errorf("%s: slots\n%+v became\n%+v", what, slots, slotsNow)
	}
}

// answered are packets of the edge to others than the client.
func (s *siege) answered() (other []packet) {
	for _, p := range s.toEdge.seen() {
		if p.src == s.server && p.dst.Addr() != s.net.A.Public && p.dst.Addr() != s.net.B.Public {
			other = append(other, p)
		}
	}
	return other
}

// lastUp is the last DATA packet that the client sent.
func (s *siege) lastUp() packet {
	s.t.Helper()
	for _, p := range slices.Backward(s.sniffed.seen()) {
		if p.dst == s.server && p.payload[0] == wire.TypeData {
			return p
		}
	}
	s.t.Fatal("nothing was sniffed")
	return packet{}
}

// Ids are guessed at full speed: each guess ends in XDP, unanswered.
func TestThreatGuessedIDs(t *testing.T) {
	s := newSiege(t)
	s.steady("guessed ids", func() {
		s.flood("id_forged", 20_000, func() packet {
			p := packet{anyone(), s.server, noise(100)}
			wire.PutDataHeader(p.payload, rand.Uint64N(1<<20), wire.ID(noise(16)))
			return p
		})
	})
	if n := s.count("server", "id_forged"); n != 0 {
		t.Errorf("%d guesses reached the server", n)
	}
	if a := s.answered(); len(a) != 0 {
		t.Errorf("%d guesses were answered, the first with %x", len(a), a[0].payload)
	}
}

// INITs under forged addresses: XDP answers them, by less than they brought, and
// honest clients still get in.
func TestThreatInitFlood(t *testing.T) {
	s := newSiege(t)
	mac1 := handshake.NewMAC1Key(s.serverKey.Public()) // no secret
	start := time.Now()
	s.steady("spoofed INITs", func() {
		s.flood("retry", 10_000, func() packet {
			init := wire.NewInit(make([]byte, wire.InitLen), wire.ID(noise(16)))
			copy(init.Noise(), noise(len(init.Noise())))
			init.SetMAC1(mac1.Sum(init))
			return packet{anyone(), s.server, init}
		})
	})
	took := time.Since(start)
	// What came before the rate was over the limit, and no more.
	const perCPU = 200
	if n, most := s.count("server", "init_not_opened"), uint64((took.Seconds()+2)*perCPU)*uint64(cpus(t)); n > most {
		t.Errorf("%d INITs of %v reached the handshake, the limit lets %d through", n, took, most)
	}
	retries := 0
	for _, p := range s.answered() {
		if len(p.payload) != wire.RetryLen || p.payload[0] != wire.TypeRetry {
			t.Fatalf("an INIT of %d bytes was answered by %x", wire.InitLen, p.payload)
		}
		retries++
	}
	if retries == 0 {
		t.Error("no RETRY was seen")
	}
	s.connect("-L", "5008:7")
	ask(t, s.labBench.program(5008), "an honest client")
}

// cpus are those on which the data plane counts.
func cpus(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		t.Fatal(err)
	}
	_, last, found := strings.Cut(strings.TrimSpace(string(text)), "-")
	if !found {
		return 1
	}
	n := 0
	for _, digit := range last {
		n = 10*n + int(digit-'0')
	}
	return n + 1
}

// Whoever sniffs the client's network knows the id and has every packet. From his
// own address he gets nothing, under the client's he spends the id's bucket; the
// session stays and goes on.
func TestThreatSniffedID(t *testing.T) {
	s := newSiege(t)
	forge := func(src func(packet) netip.AddrPort) func() packet {
		var p packet
		n := 0
		return func() packet {
			if n%500 == 0 {
				p = s.lastUp()
			}
			n++
			counter, id, err := wire.ParseData(p.payload)
			if err != nil {
				t.Fatal(err)
			}
			forged := packet{src(p), s.server, noise(len(p.payload))}
			wire.PutDataHeader(forged.payload, counter+1+rand.Uint64N(1000), id)
			return forged
		}
	}
	own := func(packet) netip.AddrPort { return s.attacker }
	s.steady("forged from elsewhere", func() {
		s.flood("candidate_limit", 5000, forge(own))
	})
	s.steady("replayed", func() {
		captured := s.sniffed.seen()
		for _, p := range captured {
			if p.dst == s.server && p.payload[0] == wire.TypeData {
				p.src = s.attacker
				s.send(p)
			}
		}
		until(t, "a forwarding alarm", func() bool {
			return items[control.Session](s.labBench, "session", "list")[0].ForwardingAlarms > 0
		})
	})
	if a := s.answered(); len(a) != 0 {
		t.Errorf("the attacker was sent %d packets, the first %x", len(a), a[0].payload)
	}
	remote := items[control.Session](s.labBench, "session", "list")[0].Remote
	s.flood("main_limit", 5000, forge(func(p packet) netip.AddrPort { return p.src }))
	ask(t, s.program, "after")
	if list := items[control.Session](s.labBench, "session", "list"); len(list) != 1 || list[0].Remote != remote || list[0].Moves != 0 {
		t.Errorf("after a flood under the client's address: %+v", list)
	}
}

// The client goes from one network to another and back. What was captured on the
// two has no 8 bytes in common that could tell whose they are.
func TestThreatLinkedNetworks(t *testing.T) {
	s := newSiege(t)
	other := newTap(t, s.net.Core, s.net.B.Tap)
	where := func(public netip.Addr) func() bool {
		return func() bool {
			list := items[control.Session](s.labBench, "session", "list")
			return len(list) == 1 && list[0].Remote.Addr() == public
		}
	}
	// One id in use and two spare ones, as after a while: without spare ids a move
	// keeps its id.
	ready := func() bool { return len(items[slotItem](s.labBench, "map", "dump", "slots")) == 3 }
	for round := range 2 {
		until(t, "spare ids for the next move", ready)
		if err := s.net.B.Join(50 - round); err != nil {
			t.Fatal(err)
		}
		ask(t, s.program, "from network B")
		until(t, "the session is on network B", where(s.net.B.Public))
		until(t, "spare ids for the next move", ready)
		if err := s.net.B.Leave(); err != nil {
			t.Fatal(err)
		}
		ask(t, s.program, "from network A")
		until(t, "the session is on network A", where(s.net.A.Public))
	}
	if list := items[control.Session](s.labBench, "session", "list"); list[0].Moves < 4 {
		t.Errorf("%d moves, want at least 4", list[0].Moves)
	}
	values := func(p *tap) map[[8]byte]packet {
		m := map[[8]byte]packet{}
		for _, p := range p.seen() {
			for i := 8; (p.src == s.server || p.dst == s.server) && i+8 <= len(p.payload); i++ {
				m[[8]byte(p.payload[i:])] = p
			}
		}
		return m
	}
	a, b := values(s.sniffed), values(other)
	if len(a) < 1000 || len(b) < 1000 {
		t.Fatalf("only %d and %d values were captured", len(a), len(b))
	}
	for v, p := range a {
		if q, both := b[v]; both {
			t.Fatalf("%x is in %x\nfrom %v, on the one network, and in %x\nfrom %v, on the other", v, p.payload, p.src, q.payload, q.src)
		}
	}
}
