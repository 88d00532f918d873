// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/maps"
)

// What diagnose explains is brought about here, as the kernel does it; more of
// it is in instance_test.go (foreign programs, MTU, schema, no BPF file system,
// no native XDP on lo), privilege_test.go, port_test.go and, for the memory limit
// of AF_XDP, in userspace/netio.

func TestReadOnlyFileSystem(t *testing.T) {
	m := newMachine(t)
	m.load("edge0")
	remount := func(flags uintptr) {
		m.must(unix.Mount("", m.options.BPFFS, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""))
	}
	remount(unix.MS_RDONLY)
	before := *m.attached("edge0")
	other := m.options
	other.Instance = "other"
	_, _, err := Load(other, []string{"edge0"}, ModeXDP)
	wantError(t, err, ErrPermission, "read-only", "`mount -o remount,rw "+m.options.BPFFS+"`")
	_, err = Unload(m.options)
	wantError(t, err, ErrPermission, "read-only", "remount,rw")
	if now := *m.attached("edge0"); now != before {
		t.Errorf("now %v, before %v", now, before)
	}
	remount(0)
	m.unload()
	m.wantNothing("edge0")
}

// Pins that may not be written: a process without root's powers over files.
func TestReadOnlyPins(t *testing.T) {
	m := newMachine(t)
	m.load("edge0")
	pin := filepath.Join(m.options.BPFFS, "xdp-roam/test/maps/config")
	m.must(os.Chmod(pin, 0o400))
	m.limit(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
	for _, try := range []func() error{
		func() error { _, err := Open(m.options); return err },
		func() error { _, err := Upgrade(m.options); return err },
	} {
		wantError(t, try(), ErrPermission, filepath.Dir(pin), "not writable", "ls -l", "chmod 600")
	}
	m.must(os.Chmod(pin, 0o600))
	m.unload()
	m.wantNothing("edge0")
}

// A device whose driver never had native XDP.
func TestNoNativeXDP(t *testing.T) {
	m := newMachine(t)
	var refused string
	for _, l := range []netlink.Link{
		&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "plain0"}},
		&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "plain0"}},
		&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "plain0"}, Mode: netlink.TUNTAP_MODE_TUN},
	} {
		if err := netlink.LinkAdd(l); err == nil {
			refused = l.Type()
			break
		} else if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			t.Fatal(err)
		}
	}
	if refused == "" {
		t.Skip("this kernel has no dummy, bridge or TUN device; TestModes tries lo")
	}
	_, _, err := Load(m.options, []string{"plain0"}, ModeXDP)
	if refused == "tun" {
		wantError(t, err, ErrUnsupported, "plain0", "layer 3")
		return
	}
	wantError(t, err, ErrUnsupported, "plain0", "has no native XDP", "--mode generic", "slower")
	list, _, err := Load(m.options, []string{"plain0"}, ModeGeneric)
	m.must(err)
	if len(list) != 1 || list[0].Mode != ModeGeneric {
		t.Errorf("generic: %+v", list)
	}
	m.unload()
	m.wantNothing()
}

// A table that the machine has no memory for.
func TestNoMemoryForTheTable(t *testing.T) {
	m := newMachine(t)
	m.options.Slots = 1 << 28 // 16 GiB
	var info unix.Sysinfo_t
	m.must(unix.Sysinfo(&info))
	if info.Totalram*uint64(info.Unit) > 15<<30 {
		t.Skip("this machine has the memory for the largest table; the small ones of vagrant/kernels do not")
	}
	_, err := Open(m.options)
	wantError(t, err, unix.ENOMEM, "268435456 slots", "16384 MiB", "table_slots", "MemoryMax")
	m.wantNothing()
}

// The full table's words name its size and the setting.
func TestFullTable(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.must(i.Maps.Identify(0, key))
	for n := 0; ; n++ {
		_, _, err := i.Maps.Sessions.Allocate(maps.KindROAM, 0)
		if n < 48 {
			m.must(err)
			continue
		}
		if want := "session table is full: 48 of 64 slots are in use, the limit is 75 %; raise table_slots"; !errors.Is(err, maps.ErrFull) || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
		break
	}
	m.must(i.Close())
}

// A kernel that lacks a feature: named, with the version that brought it.
func TestKernelTooOld(t *testing.T) {
	has, hasNot := func() error { return nil }, func() error { return fmt.Errorf("probing: %w", ebpf.ErrNotSupported) }
	cannotTell := func() error { return unix.EPERM }
	if err := checkKernel([]kernelFeature{{"A", "5.9", has}, {"B", "5.8", cannotTell}}); err != nil {
		t.Error(err)
	}
	err := checkKernel([]kernelFeature{{"A", "5.9", has}, {"time travel", "5.8", hasNot}, {"C", "4.1", hasNot}})
	wantError(t, err, ErrUnsupported, kernelRelease(), "lacks time travel", "since 5.8")
	testutil.RequirePrivileged(t)
	if err := checkKernel(kernelFeatures); err != nil {
		t.Errorf("this kernel: %v", err)
	}
}

// libxdp's dispatcher is told apart from any other program: by its name and by
// the pins that libxdp makes.
func TestDispatcherIsExplained(t *testing.T) {
	m := newMachine(t)
	m.must(unix.Mount("bpf", DefaultBPFFS, "bpf", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(DefaultBPFFS, unix.MNT_DETACH) })
	m.must(os.Mkdir(filepath.Join(m.options.BPFFS, "xdp-roam"), 0o700))
	m.must(os.MkdirAll(filepath.Join(m.options.BPFFS, "xdp-roam/test/links"), 0o700))
	m.fake("edge0", dispatcherName, ebpf.AttachXDP)
	id := m.attached("edge0").ID
	_, _, err := Load(Options{BPFFS: m.options.BPFFS, Instance: "a"}, []string{"edge0"}, ModeAuto)
	wantError(t, err, ErrConflict, fmt.Sprintf("libxdp's dispatcher (id %d) is attached", id), "xdp-loader status edge0", "xdp-loader unload edge0 --all", "--mode socket")

	nic, err := ReadInterface("edge0")
	m.must(err)
	dir := filepath.Join(DefaultBPFFS, "xdp", fmt.Sprintf("dispatch-%d-%d", nic.Index, id))
	for n, name := range []string{"xdp_filter", "xdp_count"} {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.XDP, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
		m.must(err)
		m.must(os.MkdirAll(dir, 0o700))
		m.must(p.Pin(filepath.Join(dir, fmt.Sprintf("prog%d-prog", n))))
		p.Close()
	}
	_, err = MakePlan(Options{BPFFS: m.options.BPFFS, Instance: "a"}, []string{"edge0"}, ModeXDP)
	wantError(t, err, ErrConflict, "is attached and runs xdp_filter, xdp_count")
	if now := m.attached("edge0"); now == nil || now.ID != id {
		t.Errorf("the dispatcher has made way: %v", now)
	}
	m.unload()
}
