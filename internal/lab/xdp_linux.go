// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink/nl"
)

// XDP says how an XDP program is attached to a link: "native", "generic",
// "offloaded", or "" for none.
func (n *Namespace) XDP(link string) (string, error) {
	l, err := n.link(link)
	if err != nil {
		return "", err
	}
	xdp := l.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return "", nil
	}
	switch xdp.AttachMode {
	case nl.XDP_ATTACHED_DRV:
		return "native", nil
	case nl.XDP_ATTACHED_SKB:
		return "generic", nil
	}
	return "offloaded", nil
}

// ReceiveXDP lets a veth end receive what an XDP program on its peer sends by
// XDP_TX or redirect: it attaches a program that passes everything. GRO would
// give the end the ring for it as well, but the kernel (6.18 at least) then does
// not wake the receiver, so that a frame waits for the next ordinary one.
// The program goes with the link.
func (n *Namespace) ReceiveXDP(name string) error {
	index, err := n.Index(name)
	if err != nil {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "lab_pass", Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	if err != nil {
		return fmt.Errorf("namespace %s: program for %s: %w", n.name, name, err)
	}
	defer program.Close()
	var attached link.Link
	err = n.Do(func() (err error) {
		attached, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		return fmt.Errorf("namespace %s: attaching a program to %s: %w", n.name, name, err)
	}
	n.keep(attached)
	return nil
}
