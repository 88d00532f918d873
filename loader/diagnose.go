// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// This is the one place that turns an operation, an errno and the facts into
// what happened, why, and how to mend it: XDP over bpf_link tells only the
// errno, and many an errno's own text misleads.

type operation uint8

const (
	opLock operation = iota
	opCreate
	opAdopt
	opPin
	opLoad
	opAttach
	opReplace
	opDetach
	opListen
)

// facts are what is known about the thing that an operation failed on.
type facts struct {
	nic   *Interface
	mode  Mode
	dir   string
	slots uint32

	address netip.AddrPort
	owners  []string // of the port
}

func diagnose(op operation, err error, f facts) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	var e *Error
	switch op {
	case opLock:
		e = diagnosePins("cannot lock the pins", err, f)
	case opCreate:
		e = diagnoseCreate(err, f)
	case opAdopt:
		e = diagnoseAdopt(err, f)
	case opPin:
		e = diagnosePins("cannot pin", err, f)
	case opLoad:
		e = diagnoseLoad(err)
	case opAttach:
		e = diagnoseAttach(err, f)
	case opReplace:
		e = diagnoseReplace(err, f)
	case opDetach:
		e = &Error{What: fmt.Sprintf("cannot detach from %s", f.nic.Name), fix: "`bpftool link list` shows who holds it"}
	case opListen:
		e = diagnoseListen(err, f)
	}
	e.Err = err
	if e.Kind == nil && errors.Is(err, fs.ErrPermission) { // EPERM and EACCES
		e.Kind = ErrPermission
		if e.Cause == "" {
			e.Cause = "the kernel refused permission"
			e.fix = "run it as root, or with the capabilities in the unit file; in a container, seccomp must allow bpf() and the capabilities must be those of the host's user namespace"
		}
	}
	return e
}

func diagnosePins(what string, err error, f facts) *Error {
	e := &Error{
		What: fmt.Sprintf("%s in %s", what, f.dir),
		fix:  fmt.Sprintf("the directory must be on a BPF file system and writable by this user: `ls -ld %s`", f.dir),
	}
	switch {
	case errors.Is(err, unix.EROFS):
		e.Kind, e.Cause = ErrPermission, "the BPF file system is mounted read-only"
		e.fix = fmt.Sprintf("`mount -o remount,rw %s`, or choose another mount point with --bpffs", mountPoint(f.dir))
	case errors.Is(err, unix.EINVAL):
		e.Kind, e.Cause = ErrUnsupported, fmt.Sprintf("this kernel (%s) cannot exchange directories of a BPF file system", kernelRelease())
		e.fix = "Linux 5.16 and later can; this program is tested on 6.1 and later"
	}
	return e
}

// mountPoint returns the BPF file system that an instance's pins are on.
func mountPoint(dir string) string {
	before, _, _ := strings.Cut(dir, "/xdp-roam")
	return before
}

func diagnoseCreate(err error, f facts) *Error {
	e := &Error{What: "cannot create the maps"}
	switch {
	case errors.Is(err, maps.ErrSlots):
		e.fix = "set table_slots to a power of two"
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.E2BIG):
		e.Cause = fmt.Sprintf("no memory for a table of %d slots (64 bytes each, %d MiB)", f.slots, f.slots/(1<<14))
		e.fix = "lower table_slots, or raise the memory limit of the cgroup (systemd: MemoryMax=)"
	}
	return e
}

func diagnoseAdopt(err error, f facts) *Error {
	var schema *maps.SchemaError
	e := &Error{What: fmt.Sprintf("cannot use the maps pinned in %s", f.dir)}
	switch {
	case errors.As(err, &schema):
		e.Kind = ErrConflict
		e.fix = "drain the instance, then `xdp-roam unload` and `xdp-roam load` (or `run`) with this version; or keep using the version that pinned them"
	case errors.Is(err, fs.ErrNotExist):
		e.Kind = ErrConflict
		e.Cause = "some of them are missing"
		e.fix = "`xdp-roam unload` removes the rest; then load again"
	case errors.Is(err, fs.ErrPermission):
		e.Kind = ErrPermission
		e.Cause = "they belong to another user, or are not writable"
		e.fix = fmt.Sprintf("`ls -l %s` shows the owner: run it as that user, or `chmod 600` them", f.dir)
	}
	return e
}

// The library has picked the verifier's last word out of its log already.
func diagnoseLoad(err error) *Error {
	e := &Error{What: "cannot load the programs"}
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) && len(refused.Log) > 0 {
		e.Kind = ErrUnsupported
		e.What = fmt.Sprintf("the verifier of this kernel (%s) refused a program", kernelRelease())
		e.fix = "this is a bug in this program or this kernel: please report it with the complete log, which -v prints"
	}
	return e
}

const fixNoNative = "--mode generic works on any interface but is slower; --mode auto works without XDP here"

func fixMTU(nic *Interface) string {
	fix := fmt.Sprintf("`ip link set dev %s mtu %d` (the limit on this machine; some drivers need less), or --mode generic, which is slower", nic.Name, mtuLimit())
	if nic.Kind == "veth" {
		fix += "; both ends of a veth pair count"
	}
	return fix
}

func diagnoseAttach(err error, f facts) *Error {
	nic := f.nic
	e := &Error{What: fmt.Sprintf("cannot attach to %s in %s mode", nic.Name, f.mode)}
	native := f.mode == ModeXDP
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return conflict(nic, f.mode)
	case errors.Is(err, unix.ENODEV):
		e.Kind, e.Cause, e.fix = ErrNoInterface, "the interface has just disappeared", "try again when it is back"
	case native && errors.Is(err, unix.EOPNOTSUPP):
		e.Kind, e.Cause, e.fix = ErrUnsupported, fmt.Sprintf("driver %s has no native XDP", nic.Driver), fixNoNative
	case native && errors.Is(err, unix.ERANGE), native && errors.Is(err, unix.EINVAL) && nic.MTU > mtuLimit():
		e.Kind, e.Cause, e.fix = ErrUnsupported, fmt.Sprintf("the MTU (here %d) is too large for XDP", nic.MTU), fixMTU(nic)
	case native && errors.Is(err, unix.ENOSPC):
		e.Kind = ErrUnsupported
		e.Cause = fmt.Sprintf("driver %s has too few queues for XDP", nic.Driver)
		e.fix = fmt.Sprintf("`ethtool -L %s` sets them (on a veth: at least as many receive queues as its peer has transmit queues), or --mode generic, which is slower", nic.Name)
	case native && errors.Is(err, unix.EINVAL):
		e.Kind = ErrUnsupported
		e.Cause = fmt.Sprintf("driver %s refuses XDP with the current settings of the interface", nic.Driver)
		e.fix = fmt.Sprintf("large receive offload is the usual reason: `ethtool -K %s lro off`; `dmesg` may say more; or --mode generic, which is slower", nic.Name)
	}
	return e
}

// conflict is another's program on the interface: it is never replaced.
func conflict(nic *Interface, mode Mode) *Error {
	e := &Error{
		Kind: ErrConflict, What: fmt.Sprintf("cannot attach to %s in %s mode", nic.Name, mode),
		Cause: "another XDP program is attached",
		fix: fmt.Sprintf("detach it with the tool that attached it (`bpftool net show dev %s` and `bpftool link` show it; "+
			"`ip link set dev %s xdp off` detaches only what no BPF link holds), or run without XDP here", nic.Name, nic.Name),
	}
	if nic.XDP == nil {
		return e
	}
	e.Cause = fmt.Sprintf("another XDP %v is attached", nic.XDP)
	if _, ours := maps.XDPSlot(nic.XDP.Name); ours {
		e.Cause = fmt.Sprintf("another instance's %s (id %d) is attached", nic.XDP.Name, nic.XDP.ID)
		e.fix = "stop that instance, or `xdp-roam --instance NAME unload` it; an interface can belong to one instance only"
	}
	if nic.XDP.Name == dispatcherName {
		e.Cause = fmt.Sprintf("libxdp's dispatcher (id %d) is attached", nic.XDP.ID)
		if nic.XDP.Components != "" {
			e.Cause += " and runs " + nic.XDP.Components
		}
		e.fix = fmt.Sprintf("roam_xdp needs the interface's only BPF link for itself and cannot run under a dispatcher: `xdp-loader status %s` shows "+
			"what runs there and `xdp-loader unload %s --all` detaches it; or keep it and run without XDP here (`run --mode socket`)", nic.Name, nic.Name)
	}
	return e
}

func diagnoseListen(err error, f facts) *Error {
	e := &Error{What: fmt.Sprintf("cannot listen on %v", f.address)}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		e.Kind, e.fix = ErrConflict, "another process uses the port; run as root, this command names it"
		if len(f.owners) > 0 {
			e.Cause = "the port is used by " + strings.Join(f.owners, ", ")
			e.fix = "stop it, or choose another port with --listen"
		}
	case errors.Is(err, unix.EADDRNOTAVAIL):
		e.fix = fmt.Sprintf("no interface of this host has this address; --listen :%d means all of them", f.address.Port())
	case errors.Is(err, unix.EAFNOSUPPORT):
		e.fix = fmt.Sprintf("this host has no IPv6: --listen 0.0.0.0:%d", f.address.Port())
	}
	return e
}

func diagnoseReplace(err error, f facts) *Error {
	e := &Error{What: fmt.Sprintf("cannot replace the program on %s", f.nic.Name)}
	if errors.Is(err, unix.EINVAL) {
		e.Kind = ErrConflict
		e.Cause = "the attached program is not compatible"
		e.fix = "`xdp-roam unload`, then load again"
	}
	return e
}
