// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/xdp-roam/xdp-roam/loader"
)

// probe attaches a program that passes everything on to the interface's driver
// and takes it off at once. Some NICs restart their queues for it. What a BPF
// link refuses is tried once more by netlink, where the driver can say why in
// words; what that attached is taken off as well.
func probe(nic *loader.Interface) *Probe {
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "roam_probe", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	if err != nil {
		return &Probe{Err: err}
	}
	defer pass.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: pass, Interface: nic.Index, Flags: link.XDPDriverMode})
	if err == nil {
		return &Probe{Err: l.Close()}
	}
	p := &Probe{Err: err}
	device, lookup := netlink.LinkByIndex(nic.Index)
	if lookup != nil {
		return p
	}
	nl.EnableErrorMessageReporting = true
	const flags = nl.XDP_FLAGS_DRV_MODE | nl.XDP_FLAGS_UPDATE_IF_NOEXIST
	if err := netlink.LinkSetXdpFdWithFlags(device, pass.FD(), flags); err != nil {
		p.Driver = err.Error()
		return p
	}
	_ = netlink.LinkSetXdpFdWithFlags(device, -1, nl.XDP_FLAGS_DRV_MODE)
	return p
}
