// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/loader"
)

// healthy are the facts of a machine on which nothing is amiss.
func healthy() *Facts {
	return &Facts{
		Kernel:  Kernel{Release: "6.12.0", Features: []loader.Feature{{Name: "XDP", Since: "4.8"}, {Name: "the ring buffer", Since: "5.8"}}, JIT: 1},
		Memory:  Memory{Table: 64 << 20, Memlock: math.MaxUint64},
		Clock:   Clock{Source: "tsc"},
		Port:    Port{Address: "[::]:7626"},
		Workers: 8,
		Interfaces: []Interface{{
			Interface: &loader.Interface{Name: "eth0", Index: 2, Kind: "device", Driver: "mlx5_core", MTU: 1500, Encap: "ether", Native: loader.SupportYes, ZeroCopy: loader.SupportYes},
			Up:        true, Rings: Rings{2048, 8192}, Channels: Channels{Count: 8, Max: 16},
			UDPHash: Hash{Known: true, Addresses: true, Ports: true}, GRO: true,
		}},
	}
}

func TestHealthyMachine(t *testing.T) {
	for _, f := range Judge(healthy()) {
		if f.Severity != OK || f.What == "" || f.Why != "" || f.Fix != "" || f.Kind != nil {
			t.Errorf("%+v", f)
		}
	}
	if w := Worst(Judge(healthy())); w == nil || w.Severity != OK {
		t.Errorf("the worst: %+v", w)
	}
	if Worst(nil) != nil {
		t.Error("the worst of nothing")
	}
}

// Each thing that can be amiss makes one finding: of this severity, and with
// these words in what, why and fix.
func TestJudge(t *testing.T) {
	eth0 := func(change func(*Interface)) func(*Facts) { return func(f *Facts) { change(&f.Interfaces[0]) } }
	denied := &loader.Error{Kind: loader.ErrPermission, What: "needs CAP_BPF and CAP_NET_ADMIN (have: none)"}
	for name, test := range map[string]struct {
		change   func(*Facts)
		severity Severity
		check    string
		kind     error
		words    []string
	}{
		"no capabilities": {func(f *Facts) { f.Capabilities.Err = denied }, Fail, "capabilities", loader.ErrPermission, []string{"needs CAP_BPF"}},
		"no CAP_PERFMON":  {func(f *Facts) { f.Capabilities.Warnings = []string{"slower"} }, Warn, "capabilities", nil, []string{"CAP_PERFMON", "slower", "AmbientCapabilities"}},
		"kernel too old": {func(f *Facts) { f.Kernel.Features[1].Err = fmt.Errorf("probe: %w", ebpf.ErrNotSupported) }, Fail, "kernel",
			loader.ErrUnsupported, []string{"Linux 6.12.0 lacks the ring buffer", "since 5.8"}},
		"kernel not probed": {func(f *Facts) { f.Kernel.Features[1].Err = unix.EPERM }, Info, "kernel", nil, []string{"1 of 2", "as root"}},
		"no JIT":            {func(f *Facts) { f.Kernel.JIT = 0 }, Warn, "jit", nil, []string{"interpreted", "`sysctl -w net.core.bpf_jit_enable=1`"}},
		"no bpffs":          {func(f *Facts) { f.BPFFS = loader.CheckBPFFS("/proc") }, Fail, "bpffs", loader.ErrUnsupported, []string{"/proc", "mount -t bpf"}},
		"memory cgroup": {func(f *Facts) { f.Memory.CgroupLimit, f.Memory.CgroupUsed = 256<<20, 100<<20 }, Fail, "memory", loader.ErrUnsupported,
			[]string{"156 MiB left of 256 MiB", "takes 64 MiB", "MemoryMax", "table_slots"}},
		"memlock":    {func(f *Facts) { f.Memory.Memlock = 8 << 20 }, Warn, "memlock", nil, []string{"8 MiB", "AF_XDP", "`ulimit -l unlimited`", "LimitMEMLOCK"}},
		"slow clock": {func(f *Facts) { f.Clock.Source = "hpet" }, Warn, "clock", nil, []string{"hpet", "microseconds", "available_clocksource"}},
		"port in use": {func(f *Facts) {
			f.Port.Err = &loader.Error{Kind: loader.ErrConflict, What: "cannot listen", Cause: "the port is used by nginx (pid 812)"}
		}, Fail, "port", loader.ErrConflict, []string{"nginx (pid 812)"}},
		"no such address": {func(f *Facts) { f.Port.Err = unix.EADDRNOTAVAIL }, Fail, "port", loader.ErrUnsupported, nil},
		"another key":     {func(f *Facts) { f.WrongKey = 12 }, Info, "server key", nil, []string{"12", "mac1", "`xdp-roam status`", "known_servers"}},
		"no interfaces":   {func(f *Facts) { f.Interfaces = nil }, Info, "interface", nil, []string{"xdp-roam doctor IFACE"}},
		"no such interface": {eth0(func(i *Interface) { i.Err = &loader.Error{Kind: loader.ErrNoInterface, What: "there is no interface"} }), Fail, "interface",
			loader.ErrUnsupported, []string{"there is no interface"}},
		"down": {eth0(func(i *Interface) { i.Up = false }), Warn, "interface", nil, []string{"down", "`ip link set dev eth0 up`"}},
		"no native XDP": {eth0(func(i *Interface) { i.Native, i.Driver = loader.SupportNo, "e1000" }), Warn, "xdp", nil,
			[]string{"driver e1000 has no native XDP", "costs more", "--mode generic"}},
		"XDP not known": {eth0(func(i *Interface) { i.Native = loader.SupportUnknown }), Info, "xdp", nil, []string{"6.3", "`xdp-roam doctor --probe-attach eth0`"}},
		"large MTU":     {eth0(func(i *Interface) { i.Driver, i.MTU = "virtio_net", 9000 }), Warn, "xdp", nil, []string{"MTU 9000", "`ip link set dev eth0 mtu"}},
		"VLAN":          {eth0(func(i *Interface) { i.Parent = "eth9" }), Warn, "xdp", nil, []string{"VLAN", "eth9"}},
		"bonded":        {eth0(func(i *Interface) { i.Master = "bond0" }), Warn, "xdp", nil, []string{"bond0"}},
		"hidden tags":   {eth0(func(i *Interface) { i.Untagged = "eth0.7" }), Warn, "xdp", nil, []string{"eth0.7", "`ethtool -K eth0 rxvlan off`"}},
		"veth":          {eth0(func(i *Interface) { i.Kind = "veth" }), Warn, "xdp", nil, []string{"RETRY", "--mode generic"}},
		"no zero-copy":  {eth0(func(i *Interface) { i.ZeroCopy = loader.SupportNo }), Info, "af_xdp", nil, []string{"copies each frame"}},
		"foreign": {eth0(func(i *Interface) { i.XDP = &loader.AttachedProgram{ID: 7, Name: "filter"} }), Fail, "program", loader.ErrConflict,
			[]string{`"filter" (id 7)`, "never replaced", "bpftool"}},
		"dispatcher": {eth0(func(i *Interface) {
			i.XDP = &loader.AttachedProgram{ID: 7, Name: "xdp_dispatcher", Components: "a, b"}
		}), Fail, "program", loader.ErrConflict, []string{"libxdp's dispatcher (id 7)", "runs a, b", "xdp-loader unload eth0 --all"}},
		"refused probe":        {eth0(func(i *Interface) { i.Probe = &Probe{Err: unix.EINVAL, Driver: "MTU too large"} }), Warn, "probe", nil, []string{"MTU too large", "generic"}},
		"mute refusal":         {eth0(func(i *Interface) { i.Probe = &Probe{Err: unix.EINVAL} }), Warn, "probe", nil, []string{"invalid argument"}},
		"few queues":           {eth0(func(i *Interface) { i.Channels = Channels{Count: 2, Max: 4} }), Warn, "queues", nil, []string{"receive queues: 2, workers: 8", "`ethtool -L eth0 combined 4`"}},
		"few queues of a veth": {eth0(func(i *Interface) { i.Channels = Channels{Count: 1, Max: 4, Separate: true} }), Warn, "queues", nil, []string{"`ethtool -L eth0 rx 4`"}},
		"small NIC":            {eth0(func(i *Interface) { i.Channels = Channels{Count: 1, Max: 1} }), Info, "queues", nil, []string{"the NIC has no more"}},
		"RSS": {eth0(func(i *Interface) { i.UDPHash.Ports = false }), Warn, "rss", nil,
			[]string{"addresses only", "NAT", "`ethtool -N eth0 rx-flow-hash udp4 sdfn`"}},
		"short ring": {eth0(func(i *Interface) { i.Rings = Rings{256, 8192} }), Info, "ring", nil, []string{"256 of at most 8192 frames", "`ethtool -G eth0 rx 4096`"}},
		"LRO":        {eth0(func(i *Interface) { i.LRO = true }), Warn, "offloads", nil, []string{"`ethtool -K eth0 lro off`"}},
		"no GRO": {func(f *Facts) { f.Interfaces[0].GRO, f.Interfaces[0].Encap = false, "none" }, Info, "offloads", nil,
			[]string{"`ethtool -K eth0 gro on`"}},
	} {
		t.Run(name, func(t *testing.T) {
			facts := healthy()
			test.change(facts)
			findings := Judge(facts)
			at := slices.IndexFunc(findings, func(f Finding) bool { return f.Check == test.check && f.Severity != OK })
			if at < 0 {
				t.Fatalf("no finding about %s: %+v", test.check, findings)
			}
			f := findings[at]
			if f.Severity != test.severity || !errors.Is(f.Kind, test.kind) {
				t.Errorf("severity %v, kind %v, want %v, %v: %+v", f.Severity, f.Kind, test.severity, test.kind, f)
			}
			if f.Why == "" {
				t.Errorf("%+v says no why", f)
			}
			text := f.What + "\n" + f.Why + "\n" + f.Fix
			for _, w := range test.words {
				if !strings.Contains(text, w) {
					t.Errorf("%q does not say %q", text, w)
				}
			}
			amiss := slices.DeleteFunc(findings, func(f Finding) bool { return f.Severity == OK })
			if want := 1; name != "no GRO" && len(amiss) != want { // a layer 3 device has no XDP either
				t.Errorf("%d findings: %+v", len(amiss), amiss)
			}
			if !slices.IsSortedFunc(findings, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) }) {
				t.Error("not the worst first")
			}
		})
	}
}

// What is as it should be, only otherwise.
func TestJudgeOurs(t *testing.T) {
	f := healthy()
	f.Port.Err, f.Port.Ours = &loader.Error{Kind: loader.ErrConflict, What: "used"}, true
	f.Interfaces[0].XDP, f.Interfaces[0].Ours = &loader.AttachedProgram{ID: 7, Name: "roam_xdp", Mode: loader.ModeXDP}, true
	f.Interfaces[0].Probe = &Probe{}
	f.Memory.CgroupLimit, f.Memory.Memlock, f.Memory.IPCLock = 8<<30, 64<<10, true
	findings := Judge(f)
	if w := Worst(findings); w.Severity != OK {
		t.Errorf("%+v", *w)
	}
	var text strings.Builder
	for _, one := range findings {
		fmt.Fprintln(&text, one.Check, one.What)
	}
	for _, want := range []string{"the daemon's of this instance", "this instance's roam_xdp (id 7)", "took a native program", "the cgroup has 8 GiB left", "locked memory: not limited"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no word of %q:\n%s", want, text.String())
		}
	}
}

func TestCgroupLimits(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("a/memory.max", "1000\n")
	write("a/memory.current", "300\n")
	write("a/b/memory.max", "max\n")
	write("c/memory.max", "max\n")
	for membership, want := range map[string][2]uint64{
		"12:pids:/\n0::/a/b\n": {1000, 300}, "0::/c\n": {}, "0::/\n": {}, "4:memory:/a\n": {}, "": {}, "0::/gone\n": {},
	} {
		if limit, used := readCgroup(root, membership); limit != want[0] || used != want[1] {
			t.Errorf("%q: %d, %d used, want %v", membership, limit, used, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{100: "100 bytes", 1 << 10: "1 KiB", 64 << 20: "64 MiB", 3 << 29: "1.5 GiB", math.MaxUint64: "unlimited"} {
		if got := bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
