// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/rtdump"
	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/maps"
)

// Options say what the edge is to be.
type Options struct {
	Instance    loader.Options
	Listen      netip.AddrPort
	Workers     int
	Interfaces  []string // none: those with a global unicast address
	ProbeAttach bool     // attach an empty program to each for a moment, natively
}

// Collect looks at the machine. It changes nothing, unless ProbeAttach is set.
func Collect(o Options) (*Facts, error) {
	f := &Facts{
		Kernel:  Kernel{Release: loader.KernelRelease(), Features: loader.ProbeKernel(), JIT: readJIT()},
		Workers: o.Workers, Memory: readMemory(o.Instance.Slots),
		Clock: Clock{Source: readLine("/sys/devices/system/clocksource/clocksource0/current_clocksource")},
	}
	f.Capabilities.Warnings, f.Capabilities.Err = loader.CheckCapabilities()
	bpffs := o.Instance.BPFFS
	if bpffs == "" {
		bpffs = loader.DefaultBPFFS
	}
	f.BPFFS = loader.CheckBPFFS(bpffs)
	status := &loader.Status{}
	if s, err := loader.ReadStatus(o.Instance); err == nil {
		status = s
	}
	f.Port = readPort(o.Listen, status.Owner)
	names := o.Interfaces
	if len(names) == 0 {
		var err error
		if names, err = publicInterfaces(); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		f.Interfaces = append(f.Interfaces, readInterface(name, status, o.ProbeAttach))
	}
	return f, nil
}

// publicInterfaces are those that others could reach.
func publicInterfaces() ([]string, error) {
	links, err := rtdump.Whole(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range links {
		addrs, err := rtdump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if a.Scope == unix.RT_SCOPE_UNIVERSE && a.IP.IsGlobalUnicast() {
				names = append(names, l.Attrs().Name)
				break
			}
		}
	}
	return names, nil
}

func readInterface(name string, status *loader.Status, probeIt bool) Interface {
	nic, err := loader.ReadInterface(name)
	if err != nil {
		return Interface{Interface: &loader.Interface{Name: name}, Err: err}
	}
	i := Interface{
		Interface: nic,
		Rings:     readRings(name), Channels: readChannels(name), UDPHash: readUDPHash(name),
	}
	if l, err := netlink.LinkByName(name); err == nil {
		i.Up = l.Attrs().RawFlags&unix.IFF_UP != 0
	}
	i.GRO, i.LRO = readOffloads(name)
	for _, a := range status.Attachments {
		i.Ours = i.Ours || a.Interface == name && nic.XDP != nil && a.Program == nic.XDP.ID
	}
	if probeIt && nic.XDP == nil {
		i.Probe = probe(nic)
	}
	return i
}

func readPort(address netip.AddrPort, owner int) Port {
	p := Port{Address: address.String(), Err: loader.CheckPort(address)}
	if p.Err != nil && owner != 0 {
		for _, one := range loader.PortOwners("udp", address.Port()) {
			p.Ours = p.Ours || strings.HasSuffix(one, "(pid "+strconv.Itoa(owner)+")")
		}
	}
	return p
}

func readJIT() int {
	n, err := strconv.Atoi(readLine("/proc/sys/net/core/bpf_jit_enable"))
	if err != nil {
		return -1
	}
	return n
}

func readMemory(slots uint32) Memory {
	if slots == 0 {
		slots = maps.DefaultSlots
	}
	const slotSize = 64
	m := Memory{Table: uint64(slots) * slotSize, Memlock: math.MaxUint64}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil {
		m.Memlock = limit.Cur
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	m.IPCLock = unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
	m.CgroupLimit, m.CgroupUsed = readCgroup("/sys/fs/cgroup", readFile("/proc/self/cgroup"))
	return m
}

// readCgroup finds the least memory limit of a process's cgroup (version 2) and
// those above it, and how much of that is used.
func readCgroup(root, membership string) (limit, used uint64) {
	for line := range strings.Lines(membership) {
		path, unified := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !unified {
			continue
		}
		for dir := filepath.Join(root, path); strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
			n, err := strconv.ParseUint(readLine(filepath.Join(dir, "memory.max")), 10, 64) // else "max", or the root's, which has none
			if err == nil && (limit == 0 || n < limit) {
				limit = n
				used, _ = strconv.ParseUint(readLine(filepath.Join(dir, "memory.current")), 10, 64)
			}
		}
	}
	return limit, used
}

func readFile(path string) string {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return string(text)
}

func readLine(path string) string { return strings.TrimSpace(readFile(path)) }
