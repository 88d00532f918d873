// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/loader"
)

// Judge says what the facts mean, the worst first.
func Judge(f *Facts) []Finding {
	var r report
	judgeCapabilities(&r, f.Capabilities)
	judgeKernel(&r, f.Kernel)
	if f.BPFFS != nil {
		r.add(failure("bpffs", "", f.BPFFS, "there is no place to pin the maps and links"))
	} else {
		r.ok("bpffs", "", "a BPF file system is mounted")
	}
	judgeMemory(&r, f.Memory)
	judgeClock(&r, f.Clock)
	judgePort(&r, f.Port)
	if f.WrongKey > 0 {
		r.add(Finding{
			Severity: Info, Check: "server key", // anyone can cause it
			What: fmt.Sprintf("handshakes under another server's key: %d (counter mac1)", f.WrongKey),
			Why:  "a client with a wrong key for this server gets no answer; these are not logged one by one, because anyone can send them",
			Fix:  "compare the public key in `xdp-roam status` with --server-key and known_servers of clients that cannot connect; previous_key_file serves an old key on",
		})
	}
	if len(f.Interfaces) == 0 {
		r.add(Finding{
			Severity: Info, Check: "interface", What: "no interface has a global unicast address",
			Why: "there is no interface to attach XDP to", Fix: "specify one: `xdp-roam doctor IFACE`",
		})
	}
	for i := range f.Interfaces {
		judgeInterface(&r, &f.Interfaces[i], f.Workers)
	}
	return r.sorted()
}

// failure is a finding that loader's own error describes.
func failure(check, on string, err error, why string) Finding {
	f := Finding{Severity: Fail, Check: check, On: on, What: err.Error(), Why: why, Kind: loader.ErrUnsupported}
	var e *loader.Error
	if errors.As(err, &e) {
		f.Fix = e.Fix()
	}
	for _, kind := range []error{loader.ErrPermission, loader.ErrConflict} {
		if errors.Is(err, kind) {
			f.Kind = kind
		}
	}
	return f
}

func judgeCapabilities(r *report, c Capabilities) {
	if c.Err != nil {
		r.add(failure("capabilities", "", c.Err, "nothing can be loaded or attached, and some checks here saw less"))
		return
	}
	for _, w := range c.Warnings {
		r.add(Finding{
			Severity: Warn, Check: "capabilities", What: "CAP_PERFMON is missing", Why: w,
			Fix: "run it as root, or give it CAP_PERFMON (systemd: AmbientCapabilities=)",
		})
	}
	if len(c.Warnings) == 0 {
		r.ok("capabilities", "", "all that loading needs")
	}
}

func judgeKernel(r *report, k Kernel) {
	missing, unknown := 0, 0
	for _, f := range k.Features {
		switch {
		case errors.Is(f.Err, ebpf.ErrNotSupported):
			missing++
			r.add(Finding{
				Severity: Fail, Check: "kernel", What: fmt.Sprintf("Linux %s lacks %s", k.Release, f.Name), Why: "the programs use it",
				Fix: fmt.Sprintf("Linux has it since %s; this program is tested on 6.1 and later", f.Since), Kind: loader.ErrUnsupported,
			})
		case f.Err != nil:
			unknown++
		}
	}
	switch {
	case missing > 0:
	case unknown > 0:
		r.add(Finding{
			Severity: Info, Check: "kernel", What: fmt.Sprintf("Linux %s: %d of %d features could not be probed", k.Release, unknown, len(k.Features)),
			Why: "probing needs the same capabilities as loading", Fix: "run it as root",
		})
	default:
		r.ok("kernel", "", "Linux %s has all features that the programs use", k.Release)
	}
	if k.JIT == 0 {
		r.add(Finding{
			Severity: Warn, Check: "jit", What: "BPF programs are interpreted", Why: "each packet costs several times as much",
			Fix: "`sysctl -w net.core.bpf_jit_enable=1`",
		})
	}
}

func judgeMemory(r *report, m Memory) {
	// The maps are charged to the cgroup of who makes them; the rest of the
	// daemon wants room beside them.
	const daemon = 128 << 20
	switch free := m.CgroupLimit - min(m.CgroupUsed, m.CgroupLimit); {
	case m.CgroupLimit == 0:
		r.ok("memory", "", "no cgroup limit; the session table takes %s", bytes(m.Table))
	case free < m.Table+daemon:
		r.add(Finding{
			Severity: Fail, Check: "memory", What: fmt.Sprintf("the cgroup has %s left of %s", bytes(free), bytes(m.CgroupLimit)),
			Why: fmt.Sprintf("the session table takes %s and the daemon another %s or so", bytes(m.Table), bytes(daemon)),
			Fix: "raise the limit (systemd: MemoryMax=), or lower table_slots", Kind: loader.ErrUnsupported,
		})
	default:
		r.ok("memory", "", "the cgroup has %s left; the session table takes %s", bytes(free), bytes(m.Table))
	}
	// An AF_XDP socket has 16 to 32 MiB of frames, one socket for each queue.
	const socket = 64 << 20
	if m.IPCLock || m.Memlock >= socket {
		limit := "not limited"
		if !m.IPCLock && m.Memlock != math.MaxUint64 {
			limit = bytes(m.Memlock)
		}
		r.ok("memlock", "", "locked memory: %s", limit)
		return
	}
	r.add(Finding{
		Severity: Warn, Check: "memlock", What: fmt.Sprintf("locked memory is limited to %s", bytes(m.Memlock)),
		Why: "AF_XDP sockets lock their frame memory, about 16 MiB per receive queue",
		Fix: "`ulimit -l unlimited` (systemd: LimitMEMLOCK=infinity)",
	})
}

// slowClocks are read by a call into a device, not by an instruction.
var slowClocks = []string{"hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"}

func judgeClock(r *report, c Clock) {
	switch {
	case slices.Contains(slowClocks, c.Source):
		r.add(Finding{
			Severity: Warn, Check: "clock", What: fmt.Sprintf("the kernel's clock source is %s", c.Source),
			Why: "reading it takes microseconds, and the BPF programs and the daemon read it for limits and timers",
			Fix: "`cat /sys/devices/system/clocksource/clocksource0/available_clocksource` lists others; `dmesg | grep -i clocksource` says why tsc was rejected",
		})
	case c.Source == "":
	default:
		r.ok("clock", "", "the kernel's clock source is %s", c.Source)
	}
}

func judgePort(r *report, p Port) {
	switch {
	case p.Err == nil:
		r.ok("port", "", "UDP %s is free", p.Address)
	case p.Ours:
		r.ok("port", "", "UDP %s is the daemon's of this instance", p.Address)
	default:
		r.add(failure("port", "", p.Err, "the edge could not listen there"))
	}
}

// bytes writes a size in the largest unit that divides it well enough.
func bytes(n uint64) string {
	if n == math.MaxUint64 {
		return "unlimited"
	}
	for _, unit := range []struct {
		size uint64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(unit.size)), ".0") + " " + unit.name
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
