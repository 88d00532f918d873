// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// foreign is somebody else's XDP program.
func foreign(m *machine, name string) (*ebpf.Program, link.Link) {
	m.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "somebody_else", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	m.must(err)
	m.Cleanup(func() { p.Close() })
	nic, err := ReadInterface(name)
	m.must(err)
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: nic.Index, Flags: link.XDPDriverMode})
	m.must(err)
	m.Cleanup(func() { l.Close() })
	return p, l
}

func TestForeignProgramIsNeverReplaced(t *testing.T) {
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	foreign(m, "edge1")
	id := m.attached("edge1").ID

	i := m.open()
	for _, mode := range []Mode{ModeXDP, ModeAuto, ModeGeneric} {
		_, err := i.Attach([]string{"edge0", "edge1"}, mode)
		wantError(t, err, ErrConflict, "edge1", `"somebody_else"`, fmt.Sprint(id))
		if p := m.attached("edge0"); p != nil {
			t.Errorf("mode %s: the failed Attach left %v on edge0", mode, p)
		}
	}
	_, err := MakePlan(Options{BPFFS: m.options.BPFFS, Instance: "other"}, []string{"edge1"}, ModeXDP)
	wantError(t, err, ErrConflict, "somebody_else")
	m.must(i.Close())
	if p := m.attached("edge1"); p == nil || p.ID != id {
		t.Errorf("on edge1 there is %v now", p)
	}
	m.wantNothing("edge0")
}

// What is in the way is another instance of ours: then another instance frees it.
func TestOtherInstanceIsNeverReplaced(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	id := m.attached("edge0").ID
	if w := i.Attachments()[0].Warning; !strings.Contains(w, "RETRY reaches nobody unless") {
		t.Errorf("no word about the other end of a veth: %q", w)
	}
	_, err := MakePlan(Options{BPFFS: m.options.BPFFS, Instance: "other"}, []string{"edge0"}, ModeXDP)
	wantError(t, err, ErrConflict, "another instance's roam_xdp", fmt.Sprint(id), "--instance NAME unload")
	m.must(i.Close())
}

// When a later interface fails, the earlier ones run what they ran before.
func TestFailedAttachGivesTheOldProgramBack(t *testing.T) {
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Keep())
	m.must(i.Close())
	before := m.attached("edge0")

	foreign(m, "edge1")
	j := m.open()
	for _, mode := range []Mode{ModeXDP, ModeGeneric} { // exchange, and another link
		_, err := j.Attach([]string{"edge0", "edge1"}, mode)
		wantError(t, err, ErrConflict, "edge1")
		if after := m.attached("edge0"); after == nil || *after != *before {
			t.Errorf("mode %s: on edge0 %v, before %v", mode, after, before)
		}
	}
	m.must(j.Close())
	if after := m.attached("edge0"); after == nil || *after != *before {
		t.Errorf("after Close on edge0 %v, before %v", after, before)
	}
}

func TestLargeMTUIsRefused(t *testing.T) {
	m := newMachine(t)
	m.addVeth("big0", "bigfar0", 9000)
	i := m.open()
	_, err := i.Attach([]string{"big0"}, ModeXDP)
	wantError(t, err, ErrUnsupported, "big0", "MTU 9000", fmt.Sprint(mtuLimit()), "generic")
	list := m.attach(i, ModeAuto, "big0")
	if list[0].Mode != ModeSocket || list[0].Reason != "no XDP: its MTU 9000 is too large for XDP" {
		t.Errorf("auto: %+v", list)
	}
	// The limit is the kernel's too.
	for _, mtu := range []int{mtuLimit(), mtuLimit() + 1} {
		for _, name := range []string{"big0", "bigfar0"} {
			l, err := netlink.LinkByName(name)
			m.must(err)
			m.must(netlink.LinkSetMTU(l, mtu))
		}
		nic, err := ReadInterface("big0")
		m.must(err)
		l, err := link.AttachXDP(link.XDPOptions{Program: i.program, Interface: nic.Index, Flags: link.XDPDriverMode})
		if mtu > mtuLimit() {
			if err == nil {
				l.Close()
				t.Errorf("the kernel takes MTU %d", mtu)
				continue
			}
			wantError(t, diagnose(opAttach, err, facts{nic: nic, mode: ModeXDP}), ErrUnsupported, "MTU")
		} else {
			m.must(err)
			l.Close()
		}
	}
	// A veth's peer counts too, and only the kernel knows.
	l, err := netlink.LinkByName("big0")
	m.must(err)
	m.must(netlink.LinkSetMTU(l, 1500))
	_, err = i.Attach([]string{"big0"}, ModeXDP)
	wantError(t, err, ErrUnsupported, "too large", "both ends")
	m.must(i.Close())
	m.wantNothing("big0")
}

func TestDevicesThatAreRefused(t *testing.T) {
	m := newMachine(t)
	err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		t.Skip("this kernel has no TUN device to make a layer 3 interface with")
	}
	m.must(err)
	i := m.open()
	for _, mode := range []Mode{ModeXDP, ModeGeneric} {
		_, err := i.Attach([]string{"tun0"}, mode)
		wantError(t, err, ErrUnsupported, "tun0", "layer 3")
	}
	m.must(i.Close())
}

func TestSchemaOfOldPinsIsRefused(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Keep())
	m.must(i.Close())
	m.setSchema(77)
	before := m.pinned()

	_, err := Open(m.options)
	wantError(t, err, ErrConflict, "77", fmt.Sprint(maps.Schema), "unload")
	if after := m.pinned(); !slices.Equal(after, before) {
		t.Errorf("the refusal changed the pins: %v, before %v", after, before)
	}
	if m.attached("edge0") == nil {
		t.Error("the refusal detached the old program")
	}
	s, err := ReadStatus(m.options)
	m.must(err)
	if s.Schema != 77 || len(s.Attachments) != 1 {
		t.Errorf("status: %+v", s)
	}
	if _, err := Unload(m.options); err != nil {
		t.Error(err)
	}
	m.wantNothing("edge0")
}

func TestOtherTableSizeIsRefused(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.must(i.Keep())
	m.must(i.Close())
	other := m.options
	other.Slots = 128
	_, err := Open(other)
	wantError(t, err, ErrConflict, "64", "128", "table_slots")
	other.Slots = 0 // whatever is there
	i, err = Open(other)
	m.must(err)
	if i.Maps.Sessions.Capacity() != 64 {
		t.Errorf("%d slots", i.Maps.Sessions.Capacity())
	}
	m.must(i.Close())
	_, err = Unload(m.options)
	m.must(err)
	other.Slots = 100
	_, err = Open(other)
	wantError(t, err, maps.ErrSlots, "100", "power of two")
	m.wantNothing()
}
