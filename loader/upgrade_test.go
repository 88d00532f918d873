// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

func TestUpgradeUnderADaemon(t *testing.T) {
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	_, err := Upgrade(m.options)
	wantError(t, err, ErrNotLoaded)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.attach(i, ModeGeneric, "edge1")
	before := []*AttachedProgram{m.attached("edge0"), m.attached("edge1")}

	report, err := Upgrade(m.options)
	m.must(err)
	if report.Owner != os.Getpid() || len(report.Interfaces) != 2 {
		t.Errorf("report: %+v", report)
	}
	for n, one := range report.Interfaces {
		now := m.attached(one.Interface)
		if one.Before != before[n].ID || one.After == one.Before || now == nil || now.ID != one.After || now.Mode != before[n].Mode {
			t.Errorf("%+v: now %v, before %v", one, now, before[n])
		}
	}
	// The daemon knows, and is none the worse for it.
	for _, a := range i.Attachments() {
		if a.Program != m.attached(a.Interface).ID {
			t.Errorf("the daemon takes program %d for attached to %s", a.Program, a.Interface)
		}
	}
	m.must(i.Close())
	m.wantNothing("edge0", "edge1")
}

// A program with AF_XDP sockets behind it is exchanged for one of its slot.
func TestUpgradeKeepsTheSlot(t *testing.T) {
	m := newMachine(t)
	m.load("edge0")
	l, err := openLink(filepath.Join(m.options.BPFFS, "xdp-roam/test/links/edge0"))
	m.must(err)
	set, err := maps.Open(filepath.Join(m.options.BPFFS, "xdp-roam/test/maps"))
	m.must(err)
	program, err := set.LoadXDP(11)
	m.must(err)
	m.must(errors.Join(l.Update(program), program.Close(), set.Close(), l.Close()))
	before := m.attached("edge0")
	_, err = Upgrade(m.options)
	m.must(err)
	if after := m.attached("edge0"); after == nil || after.ID == before.ID || after.Name != "roam_xdp_11" {
		t.Errorf("from %v to %v", before, after)
	}
	m.unload()
}

// fake attaches a program of another make under one of our pins.
func (m *machine) fake(iface, name string, attachType ebpf.AttachType) {
	m.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.XDP, AttachType: attachType, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	m.must(err)
	defer p.Close()
	nic, err := ReadInterface(iface)
	m.must(err)
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: nic.Index, Flags: link.XDPDriverMode})
	m.must(err)
	m.must(l.Pin(filepath.Join(m.options.BPFFS, "xdp-roam/test/links", iface)))
	m.must(l.Close())
}

func TestFailedUpgradeGivesTheOldProgramsBack(t *testing.T) {
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	m.load("edge0")
	m.fake("edge1", "roam_xdp", ebpf.AttachNone)
	before := []AttachedProgram{*m.attached("edge0"), *m.attached("edge1")}
	_, err := Upgrade(m.options)
	wantError(t, err, ErrConflict, "edge1", "not compatible", "unload")
	if now := []AttachedProgram{*m.attached("edge0"), *m.attached("edge1")}; !slices.Equal(now, before) {
		t.Errorf("now %v, before %v", now, before)
	}
	m.unload()

	m.load("edge0")
	m.fake("edge1", "somebody_else", ebpf.AttachXDP)
	before[0] = *m.attached("edge0")
	_, err = Upgrade(m.options)
	wantError(t, err, ErrConflict, "edge1", "not compatible")
	if now := *m.attached("edge0"); now != before[0] {
		t.Errorf("now %v, before %v", now, before[0])
	}
	m.unload()
	m.wantNothing("edge0", "edge1")
}

// Up and down alike: over maps of another schema there is no way.
func TestUpgradeOverAnotherSchemaIsRefused(t *testing.T) {
	m := newMachine(t)
	m.load("edge0")
	before := *m.attached("edge0")
	for _, schema := range []byte{maps.Schema - 1, maps.Schema + 1} {
		m.setSchema(schema)
		_, err := Upgrade(m.options)
		wantError(t, err, ErrConflict, "schema "+strconv.Itoa(int(schema)), "schema "+strconv.Itoa(maps.Schema), "drain", "unload")
		if now := *m.attached("edge0"); now != before {
			t.Errorf("now %v, before %v", now, before)
		}
	}
	m.unload()
	m.wantNothing("edge0")
}

func TestUpgradeLeavesDegradedAlone(t *testing.T) {
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	m.load("edge0", "edge1")
	m.removeLink("edge1")
	report, err := Upgrade(m.options)
	m.must(err)
	if len(report.Interfaces) != 2 {
		t.Fatalf("report: %+v", report)
	}
	for _, one := range report.Interfaces {
		if gone := one.Interface == "edge1"; gone != (one.Degraded != "") || gone != (one.Before == one.After) {
			t.Errorf("%+v", one)
		}
	}
	m.unload()
	m.wantNothing("edge0")
}

func TestKilledUpgrade(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	check := func() {
		if got := m.loaded(); !slices.Equal(got, []string{"edge0", "edge1"}) {
			m.Errorf("loaded on %v", got)
		}
	}
	m.steps(2, func() { m.load("edge0", "edge1") }, check, "upgrade")
}

// frame is an Ethernet frame with a DATA packet of an id nobody issued, from
// 192.0.2.9:4000 to 192.0.2.1:7626.
func frame() []byte {
	const udp, payload = 8, 64
	b := make([]byte, 14+20+udp+payload)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], 20+udp+payload)
	copy(ip[12:], []byte{192, 0, 2, 9, 192, 0, 2, 1})
	u := ip[20:]
	binary.BigEndian.PutUint16(u[0:], 4000)
	binary.BigEndian.PutUint16(u[2:], 7626)
	binary.BigEndian.PutUint16(u[4:], udp+payload)
	u[8] = 0x0c
	copy(u[16:], "an id of no one!")
	return b
}

// No packet is lost, or escapes the programs, while they are exchanged: frames
// come at the rate that the driver takes, and each is counted in the same maps.
func TestSwapsLoseNothing(t *testing.T) {
	swaps, packets := 200, 5_000_000
	if os.Getenv("XDP_ROAM_KERNELTEST") != "" {
		swaps, packets = 20, 20_000 // an emulated CPU
	}
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Maps.Identify(0, key))
	m.must(i.Listen(netip.MustParseAddrPort("192.0.2.1:7626"), 0))
	send := m.generator("far0")

	stop, sent := make(chan struct{}), make(chan int)
	m.start(func() {
		n := 0
		defer func() { sent <- n }()
		for {
			select {
			case <-stop:
				return
			default:
				n = send()
			}
		}
	})
	counted := func() int {
		s := i.Maps.Counters.Read()
		return int(s.Packets[maps.StageXDP][maps.ReasonIDForged])
	}
	// Two programs that differ, as two versions do: up and down.
	programs := make([]*ebpf.Program, 2)
	for n := range programs {
		program, err := i.Maps.LoadXDP(n)
		m.must(err)
		defer program.Close()
		programs[n] = program
	}
	l := i.attached["edge0"].link
	for n := range swaps {
		for counted() < packets*n/swaps {
			runtime.Gosched()
		}
		m.must(l.Update(programs[n%2]))
	}
	report, err := Upgrade(m.options) // and the whole command at last
	m.must(err)
	m.eventually("all packets are on their way", func() bool { return counted() >= packets })
	close(stop)
	n := <-sent
	// A machine too busy to empty the veth's ring in time loses packets there, before
	// any program: the device counts those itself.
	full := func() int {
		device, err := netlink.LinkByName("edge0")
		m.must(err)
		return int(device.Attrs().Statistics.RxDropped)
	}
	m.eventually("every packet is counted", func() bool { return counted()+full() >= n })
	if got := counted() + full(); got != n || n < packets || len(report.Interfaces) != 1 {
		t.Errorf("sent %d, the programs counted %d: %d lost", n, got, n-got)
	}
	t.Logf("%d exchanges under %d packets, %d lost, %d did not reach the programs", swaps+1, n, n-counted()-full(), full())
	m.must(i.Close())
	m.wantNothing("edge0")
}

// generator returns a function that has the kernel send a run of frames out of
// an interface, and returns how many it has sent in all. The frames never leave
// the kernel's hands, and the ring of a veth is emptied after each batch: nothing
// is lost on the way. A run may be cut short by a signal and made again, so the
// program counts.
func (m *machine) generator(iface string) func() int {
	m.Helper()
	const run, batch = 1 << 14, 64
	nic, err := ReadInterface(iface)
	m.must(err)
	count, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	m.must(err)
	redirect, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, count.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R1, int32(nic.Index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
		},
	})
	m.must(err)
	m.Cleanup(func() { redirect.Close(); count.Close() })
	context := make([]byte, 24) // struct xdp_md
	data := frame()
	binary.NativeEndian.PutUint32(context[4:], uint32(len(data)))
	lo, err := ReadInterface("lo")
	m.must(err)
	binary.NativeEndian.PutUint32(context[12:], uint32(lo.Index)) // ingress_ifindex
	return func() int {
		_, err := redirect.Run(&ebpf.RunOptions{Data: data, Context: context, Repeat: run, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, BatchSize: batch})
		if err != nil {
			m.Errorf("sending frames: %v", err)
		}
		var sent uint64
		if err := count.Lookup(uint32(0), &sent); err != nil {
			m.Errorf("counting frames: %v", err)
		}
		return int(sent)
	}
}
