// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

func topology(t *testing.T) *Topology {
	t.Helper()
	testutil.RequirePrivileged(t)
	topology, err := NewTopology()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topology.Close(); err != nil {
			t.Error(err)
		}
	})
	return topology
}

func clientSocket(t *testing.T, topology *Topology) *net.UDPConn {
	t.Helper()
	conn, err := topology.Client.ListenUDP(netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestEveryNetworkReachesTheEdge(t *testing.T) {
	topology := topology(t)
	echoed(t, topology)
	for _, network := range []*Access{topology.A, topology.B, topology.Six, topology.A} {
		if err := network.Join(100); err != nil {
			t.Fatal(err)
		}
		server := EdgeV4
		if network.NAT == nil {
			server = EdgeV6
		}
		conn := clientSocket(t, topology)
		seen, err := ask(t, conn, server)
		if err != nil {
			t.Fatalf("network %s: %v", network.Name, err)
		}
		if seen.Addr() != network.Public {
			t.Errorf("network %s: seen from %s, want %s", network.Name, seen, network.Public)
		}
		if network.NAT != nil && int(seen.Port()) == conn.LocalAddr().(*net.UDPAddr).Port {
			t.Errorf("network %s: the NAT kept port %d", network.Name, seen.Port())
		}
		if err := network.Leave(); err != nil {
			t.Fatal(err)
		}
		if seen, err := tryToAsk(conn, server); err == nil {
			t.Fatalf("network %s: still seen from %s after leaving", network.Name, seen)
		}
	}
}

func TestRebindChangesThePortAndShutsTheOldOne(t *testing.T) {
	topology := topology(t)
	echoed(t, topology)
	if err := topology.A.Join(100); err != nil {
		t.Fatal(err)
	}
	conn := clientSocket(t, topology)
	before, err := ask(t, conn, EdgeV4)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ask(t, conn, EdgeV4); err != nil || again != before {
		t.Fatalf("mapping is not stable: %s, then %s (%v)", before, again, err)
	}
	changes := topology.A.NAT.Rebind()
	if len(changes) != 1 || changes[0].Old != before || changes[0].New.Port() == before.Port() {
		t.Fatalf("rebinding reported %+v, the edge saw %s", changes, before)
	}
	edge, err := topology.Edge.ListenUDP(netip.AddrPortFrom(EdgeV4, 8))
	if err != nil {
		t.Fatal(err)
	}
	defer edge.Close()
	for _, to := range []netip.AddrPort{before, changes[0].New} {
		unsolicited := topology.A.NAT.Stats().Unsolicited
		edge.WriteToUDPAddrPort([]byte(to.String()), to)
		for end := time.Now().Add(patience); topology.A.NAT.Stats().Unsolicited <= unsolicited; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("a datagram to %s was not refused: %+v", to, topology.A.NAT.Stats())
			}
		}
	}
	if after, err := ask(t, conn, EdgeV4); err != nil || after != changes[0].New {
		t.Fatalf("seen from %s (%v), want %s", after, err, changes[0].New)
	}
}

func TestCutIsSilentAndKeepsTheMapping(t *testing.T) {
	topology := topology(t)
	echoed(t, topology)
	if err := topology.A.Join(100); err != nil {
		t.Fatal(err)
	}
	conn := clientSocket(t, topology)
	before, err := ask(t, conn, EdgeV4)
	if err != nil {
		t.Fatal(err)
	}
	topology.A.NAT.Cut(true)
	if seen, err := tryToAsk(conn, EdgeV4); err == nil {
		t.Fatalf("a cut router still carries: seen from %s", seen)
	}
	topology.A.NAT.Cut(false)
	if again, err := ask(t, conn, EdgeV4); err != nil || again != before {
		t.Fatalf("after the cut: %s instead of %s (%v)", again, before, err)
	}
}

// The second of two joined networks takes over when its metric is smaller, and
// nothing is lost through the NATs at the demo's rate.
func TestSteadyFlowThroughTheNATLosesNothing(t *testing.T) {
	topology := topology(t)
	echoed(t, topology)
	if err := errors.Join(topology.A.Join(100), topology.B.Join(50)); err != nil {
		t.Fatal(err)
	}
	conn := clientSocket(t, topology)
	const count = 2000
	ahead := make(chan struct{}, 64) // what the sockets between have room for, however late they are read
	go func() {
		for range count {
			ahead <- struct{}{}
			conn.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(EdgeV4, serverPort))
			time.Sleep(200 * time.Microsecond)
		}
	}()
	for i := range count {
		seen, _, err := listen(conn, patience)
		if err != nil {
			t.Fatalf("answer %d of %d: %v (NAT: %+v)", i, count, err, topology.B.NAT.Stats())
		}
		<-ahead
		if seen.Addr() != topology.B.Public {
			t.Fatalf("seen from %s, want %s", seen, topology.B.Public)
		}
	}
}

func TestATapSeesBothDirectionsAndTheAttackerCanSpoof(t *testing.T) {
	topology := topology(t)
	echoed(t, topology)
	if err := topology.A.Join(100); err != nil {
		t.Fatal(err)
	}
	tap, err := topology.Core.OpenPacket(topology.A.Tap, EtherAll)
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	seen, err := ask(t, clientSocket(t, topology), EdgeV4)
	if err != nil {
		t.Fatal(err)
	}
	edge := netip.AddrPortFrom(EdgeV4, serverPort)
	sniffed := map[netip.AddrPort]netip.AddrPort{} // source to destination
	tap.SetReadDeadline(time.Now().Add(patience))
	for b := make([]byte, 2048); len(sniffed) < 2; {
		size, err := tap.Read(b)
		if err != nil {
			t.Fatalf("sniffed only %v: %v", sniffed, err)
		}
		if p, ok := parseUDP4(b[:size]); ok {
			if sum := udpChecksum(p); sum != uint16(p.udp[6])<<8|uint16(p.udp[7]) {
				t.Errorf("a frame from %s has an unfinished checksum", p.source())
			}
			sniffed[p.source()] = p.destination()
		}
	}
	if sniffed[seen] != edge || sniffed[edge] != seen {
		t.Fatalf("sniffed %v, want %v <-> %v", sniffed, seen, edge)
	}

	// The answer to a packet with the client's address from elsewhere goes to the client's router.
	in := topology.A.NAT.Stats().In
	wire, err := topology.Attacker.OpenPacket(AttackerLink, EtherIPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	forged := frame(seen, edge, 0, []byte("forged"))
	copy(forged, AttackerGateway[:])
	if _, err := wire.Write(forged); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); topology.A.NAT.Stats().In == in; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the spoofed packet was not answered to the client")
		}
	}
}

// On an idle link, what the edge's XDP program sends back arrives by itself.
func TestTheCoreReceivesXDPTransmissions(t *testing.T) {
	topology := topology(t)
	reflect, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 3), asm.Return()}, // XDP_TX
	})
	if err != nil {
		t.Fatal(err)
	}
	defer reflect.Close()
	index, err := topology.Edge.Index(EdgeLink)
	if err != nil {
		t.Fatal(err)
	}
	var attached link.Link
	err = topology.Edge.Do(func() (err error) {
		attached, err = link.AttachXDP(link.XDPOptions{Program: reflect, Interface: index, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()
	if mode, err := topology.Edge.XDP(EdgeLink); mode != "native" || err != nil {
		t.Errorf("attached as %q (%v)", mode, err)
	}
	wire, err := topology.Core.OpenPacket("edge", EtherIPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	sent := frame(netip.MustParseAddrPort("192.0.2.1:1"), netip.AddrPortFrom(EdgeV4, 2), 0, []byte("come back"))
	for range 20 {
		if _, err := wire.Write(sent); err != nil {
			t.Fatal(err)
		}
		wire.SetReadDeadline(time.Now().Add(patience))
		got := make([]byte, 200)
		if size, err := wire.Read(got); err != nil || !bytes.Equal(got[:size], sent) {
			t.Fatalf("sent back: %x (%v), want %x", got[:size], err, sent)
		}
	}
}

func TestProcessesLiveInTheNamespaceAndDieWithIt(t *testing.T) {
	testutil.RequirePrivileged(t)
	n, err := NewNamespace("test")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.OwnMounts(); err != nil {
		t.Fatal(err)
	}
	// Lists the devices and what is mounted on /sys/fs/bpf, then waits to be killed.
	cmd := exec.Command("/bin/sh", "-c", "ls /sys/class/net; grep -c ' /sys/fs/bpf bpf ' /proc/mounts; exec sleep 100")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0, 100)
	for bytes.Count(got, []byte("\n")) < 2 {
		size, err := out.Read(got[len(got):cap(got)])
		if err != nil {
			t.Fatalf("the process said only %q: %v", got, err)
		}
		got = got[:len(got)+size]
	}
	if devices, _, _ := strings.Cut(string(got), "\n"); devices != "lo" {
		t.Errorf("/sys/class/net shows %q, want the namespace's lo alone", devices)
	}
	inside := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	if same, err := sameFile(inside, "/proc/self/ns/net"); err != nil || same {
		t.Errorf("the process is outside its namespace (%v)", err)
	}
	n.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("the process ended with %v, want killed", err)
		}
	case <-time.After(patience):
		cmd.Process.Kill()
		t.Fatal("the process outlives its namespace")
	}
	if err := n.Do(func() error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Do after Close: %v, want ErrClosed", err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	testutil.RequirePrivileged(t)
	settled(t, 1) // what tests before this one have closed
	before, links := namespaces(t), devices(t)
	topology, err := NewTopology()
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Edge.OwnMounts(); err != nil {
		t.Fatal(err)
	}
	if during := namespaces(t); len(during) != len(before)+7 {
		t.Errorf("%d namespaces while the topology stands, %d before: want 7 more", len(during), len(before))
	}
	if err := topology.Close(); err != nil {
		t.Fatal(err)
	}
	settled(t, len(before))
	if after := devices(t); after != links {
		t.Errorf("links of the host: %s, before: %s", after, links)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || bytes.Count(mounts, []byte(" /sys sysfs ")) > 1 {
		t.Errorf("a mount of the edge is visible outside (%v)", err)
	}
}

// namespaces lists the network namespaces that this process holds, by a thread
// or a descriptor.
// settled waits until this process holds so many namespaces: threads end a moment
// after their goroutines.
func settled(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(patience); len(namespaces(t)) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("this process holds the namespaces %v, want %d", namespaces(t), want)
		}
	}
}

func namespaces(t *testing.T) map[string]bool {
	t.Helper()
	held := map[string]bool{}
	for _, pattern := range []string{"/proc/self/task/*/ns/net", "/proc/self/fd/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if target, err := os.Readlink(name); err == nil && strings.HasPrefix(target, "net:") {
				held[target] = true
			}
		}
	}
	return held
}

func devices(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return strings.Join(names, " ")
}

func sameFile(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y), err
}

func TestScratchRemovesWhatAKilledRunLeft(t *testing.T) {
	parent := t.TempDir()
	left := filepath.Join(parent, "demo-123-abc")
	other := filepath.Join(parent, "demonstration")
	for _, dir := range []string{left, other} {
		if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	first, removed, err := NewScratch(parent, "demo")
	if err != nil || removed != 1 {
		t.Fatalf("removed %d (%v), want the one that was left", removed, err)
	}
	second, removed, err := NewScratch(parent, "demo")
	if err != nil || removed != 0 {
		t.Fatalf("removed %d (%v) beside a live run", removed, err)
	}
	if err := os.WriteFile(first.Path("key"), nil, 0o600); err != nil {
		t.Errorf("the live run's directory: %v", err)
	}
	if err := errors.Join(first.Close(), second.Close()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) != 1 || entries[0].Name() != "demonstration" {
		t.Fatalf("left: %v (%v)", entries, err)
	}
}

// While two networks are joined, what is sent from the address of the one that
// lost the default route still leaves through it.
func TestTheOldNetworkWorksUntilItIsLeft(t *testing.T) {
	topology := topology(t)
	echoed(t, topology)
	if err := topology.A.Join(100); err != nil {
		t.Fatal(err)
	}
	old, err := topology.Client.ListenUDP(netip.AddrPortFrom(topology.A.Addr.Addr(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := topology.B.Join(50); err != nil {
		t.Fatal(err)
	}
	for conn, public := range map[*net.UDPConn]netip.Addr{old: topology.A.Public, clientSocket(t, topology): topology.B.Public} {
		if seen, err := ask(t, conn, EdgeV4); err != nil || seen.Addr() != public {
			t.Errorf("a socket at %s is seen from %s (%v), want %s", conn.LocalAddr(), seen, err, public)
		}
	}
	if err := topology.A.Leave(); err != nil {
		t.Fatal(err)
	}
	if seen, err := tryToAsk(old, EdgeV4); err == nil {
		t.Errorf("after leaving A, its socket is still answered at %s", seen)
	}
}
