// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// checkAFXDP says whether AF_XDP sockets can stand behind roam_xdp on the
// interface, as far as that can be known without binding one.
func (nic *Interface) checkAFXDP() error {
	if err := nic.checkXDP(ModeAFXDP); err != nil {
		return err
	}
	refuse := func(kind error, err error, cause, fix string) error {
		return &Error{Kind: kind, What: fmt.Sprintf("no AF_XDP sockets on %s", nic.Name), Cause: cause, Err: err, fix: fix}
	}
	const insteadXDP = "use mode xdp: the same filter with UDP sockets behind it"
	switch {
	case nic.Kind == "bond":
		return refuse(ErrUnsupported, nil, "a bond has no receive queues of its own", insteadXDP)
	case nic.Redirect == SupportNo:
		return refuse(ErrUnsupported, nil, fmt.Sprintf("driver %s cannot redirect", nic.Driver), insteadXDP)
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EPERM):
		return refuse(ErrPermission, err, "it takes CAP_NET_RAW", "add that capability, or "+insteadXDP)
	case err != nil:
		return refuse(ErrUnsupported, err, "this kernel has none (CONFIG_XDP_SOCKETS)", insteadXDP)
	}
	return unix.Close(fd)
}

// freeSlot returns the interface slot that an interface has in maps.XSKs, or can get.
func (i *Instance) freeSlot(name string) (int, error) {
	taken := make([]bool, maps.XSKInterfaces)
	for _, a := range i.attached {
		switch {
		case a.Mode != ModeAFXDP:
		case a.Interface == name:
			return a.Slot, nil
		default:
			taken[a.Slot] = true
		}
	}
	if slot := slices.Index(taken, false); slot >= 0 {
		return slot, nil
	}
	return 0, &Error{
		Kind: ErrUnsupported, What: fmt.Sprintf("no AF_XDP sockets on %s", name),
		Cause: fmt.Sprintf("%d interfaces already have them, the maximum for one instance", maps.XSKInterfaces),
		fix:   "use mode xdp here, or another instance",
	}
}

// programOf returns the program that an attachment is to run: with AF_XDP sockets
// one of its own, which knows the interface's slot.
func (i *Instance) programOf(a *attachment) (*ebpf.Program, error) {
	if a.Mode != ModeAFXDP {
		return i.program, nil
	}
	if p := i.slotPrograms[a.Slot]; p != nil {
		return p, nil
	}
	p, err := i.Maps.LoadXDP(a.Slot)
	if err != nil {
		return nil, diagnose(opLoad, err, facts{})
	}
	i.slotPrograms[a.Slot] = p
	return p, nil
}
