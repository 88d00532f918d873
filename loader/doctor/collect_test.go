// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor

import (
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/loader"
)

// A machine of the test's own, with a veth pair; it ends with the thread.
func newMachine(t *testing.T) Options {
	t.Helper()
	testutil.RequirePrivileged(t)
	runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	bpffs := t.TempDir()
	must(unix.Mount("bpf", bpffs, "bpf", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(bpffs, unix.MNT_DETACH) })
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "edge0", MTU: 1500, TxQLen: -1, NumTxQueues: 1, NumRxQueues: 1}, PeerName: "far0"}))
	for _, name := range []string{"edge0", "far0"} {
		l, err := netlink.LinkByName(name)
		must(err)
		must(netlink.LinkSetUp(l))
	}
	l, err := netlink.LinkByName("edge0")
	must(err)
	addr, err := netlink.ParseAddr("192.0.2.1/24")
	must(err)
	must(netlink.AddrAdd(l, addr))
	return Options{Instance: loader.Options{BPFFS: bpffs, Instance: "test", Slots: 64}, Listen: netip.MustParseAddrPort("0.0.0.0:7626"), Workers: 2}
}

func collect(t *testing.T, o Options) *Facts {
	t.Helper()
	f, err := Collect(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Looking changes nothing, and what it sees of a veth is true.
func TestCollectChangesNothing(t *testing.T) {
	o := newMachine(t)
	f := collect(t, o)
	if len(f.Interfaces) != 1 || f.Interfaces[0].Name != "edge0" {
		t.Fatalf("interfaces: %+v", f.Interfaces)
	}
	i := f.Interfaces[0]
	if i.Err != nil || i.Driver != "veth" || !i.Up || i.XDP != nil || i.Ours || i.Probe != nil || i.LRO || i.Channels.Count != 1 || !i.Channels.Separate {
		t.Errorf("edge0: %+v", i)
	}
	if f.Capabilities.Err != nil || f.BPFFS != nil || f.Port.Err != nil || f.Kernel.Release == "" || len(f.Kernel.Features) < 5 || f.Memory.Table != 64*64 {
		t.Errorf("facts: %+v", f)
	}
	for _, one := range f.Kernel.Features {
		if one.Err != nil {
			t.Errorf("%s: %v", one.Name, one.Err)
		}
	}
	if w := Worst(Judge(f)); w.Severity == Fail {
		t.Errorf("%+v", *w)
	}
	if _, err := os.Stat(o.Instance.BPFFS + "/xdp-roam"); !os.IsNotExist(err) {
		t.Errorf("pins: %v", err)
	}
}

// Its own instance it knows, another's is a conflict, and both the port.
func TestCollectKnowsItsInstance(t *testing.T) {
	o := newMachine(t)
	if _, _, err := loader.Load(o.Instance, []string{"edge0"}, loader.ModeXDP); err != nil {
		t.Fatal(err)
	}
	if f := collect(t, o); !f.Interfaces[0].Ours {
		t.Errorf("%+v", f.Interfaces[0])
	}
	other := o
	other.Instance.Instance = "other"
	worst := Worst(Judge(collect(t, other)))
	if worst.Severity != Fail || worst.Kind != loader.ErrConflict || !strings.Contains(worst.What, "another instance's roam_xdp") {
		t.Errorf("%+v", *worst)
	}
	if _, err := loader.Unload(o.Instance); err != nil {
		t.Fatal(err)
	}
	o.Interfaces = []string{"nosuch0"}
	if worst := Worst(Judge(collect(t, o))); worst.Severity != Fail || worst.Check != "interface" || !strings.Contains(worst.What, "nosuch0") {
		t.Errorf("%+v", *worst)
	}
}

// The probe leaves nothing attached, and brings the driver's own words.
func TestProbeAttach(t *testing.T) {
	o := newMachine(t)
	o.ProbeAttach = true
	attached := func() *loader.AttachedProgram {
		t.Helper()
		nic, err := loader.ReadInterface("edge0")
		if err != nil {
			t.Fatal(err)
		}
		return nic.XDP
	}
	i := collect(t, o).Interfaces[0]
	if i.Probe == nil || i.Probe.Err != nil || attached() != nil {
		t.Errorf("probe %+v, attached %v", i.Probe, attached())
	}
	for _, name := range []string{"far0", "edge0"} { // a peer's MTU that only the driver minds
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetMTU(l, 9000); err != nil {
			t.Fatal(err)
		}
	}
	i = collect(t, o).Interfaces[0]
	if i.Probe == nil || i.Probe.Err == nil || !strings.Contains(i.Probe.Driver, "MTU") || attached() != nil {
		t.Errorf("probe %+v, attached %v", i.Probe, attached())
	}
}
