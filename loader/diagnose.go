// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"io/fs"

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
)

// facts are what is known about the thing that an operation failed on.
type facts struct {
	nic   *Interface
	mode  Mode
	dir   string
	slots uint32
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
		e = diagnosePins("cannot take hold of the pins", f)
	case opCreate:
		e = diagnoseCreate(err, f)
	case opAdopt:
		e = diagnoseAdopt(err, f)
	case opPin:
		e = diagnosePins("cannot pin", f)
	case opLoad:
		e = diagnoseLoad(err)
	case opAttach:
		e = diagnoseAttach(err, f)
	case opReplace:
		e = diagnoseReplace(err, f)
	case opDetach:
		e = &Error{What: fmt.Sprintf("cannot detach from %s", f.nic.Name), fix: "`bpftool link list` shows who holds it"}
	}
	e.Err = err
	if e.Kind == nil && errors.Is(err, fs.ErrPermission) { // EPERM and EACCES
		e.Kind = ErrPermission
		if e.Cause == "" {
			e.Cause = "the kernel does not permit it"
			e.fix = "run it as root, or give it the capabilities of the unit file; in a container bpf() must be allowed (seccomp) and the capabilities must be the host's"
		}
	}
	return e
}

func diagnosePins(what string, f facts) *Error {
	return &Error{
		What: fmt.Sprintf("%s in %s", what, f.dir),
		fix:  fmt.Sprintf("the directory must be on a bpf file system and yours to write: `ls -ld %s`", f.dir),
	}
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
		e.fix = "drain the instance, then `xdp-roam unload` and `xdp-roam load` (or `run`) with this version; or go on with the version that pinned them"
	case errors.Is(err, fs.ErrNotExist):
		e.Kind = ErrConflict
		e.Cause = "some of them are missing"
		e.fix = "`xdp-roam unload` removes the rest; then load again"
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
		e.fix = "this is a fault of this program or this kernel: report it with the whole log, which -v prints"
	}
	return e
}

const fixNoNative = "--mode generic works on any interface but is slower; --mode auto does without XDP here"

func fixMTU(nic *Interface) string {
	fix := fmt.Sprintf("`ip link set dev %s mtu %d` (the limit here; some drivers want less), or --mode generic, which is slower", nic.Name, mtuLimit())
	if nic.Kind == "veth" {
		fix += "; of a veth pair both ends count"
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
		e.Kind, e.Cause, e.fix = ErrNoInterface, "the interface has just gone", "try again once it is back"
	case native && errors.Is(err, unix.EOPNOTSUPP):
		e.Kind, e.Cause, e.fix = ErrUnsupported, fmt.Sprintf("driver %s has no native XDP", nic.Driver), fixNoNative
	case native && errors.Is(err, unix.ERANGE), native && errors.Is(err, unix.EINVAL) && nic.MTU > mtuLimit():
		e.Kind, e.Cause, e.fix = ErrUnsupported, fmt.Sprintf("the MTU (here %d) is too large for XDP", nic.MTU), fixMTU(nic)
	case native && errors.Is(err, unix.ENOSPC):
		e.Kind = ErrUnsupported
		e.Cause = fmt.Sprintf("driver %s has too few queues for XDP", nic.Driver)
		e.fix = fmt.Sprintf("`ethtool -L %s` sets them (of a veth: at least as many receive queues as its peer has transmit queues), or --mode generic, which is slower", nic.Name)
	case native && errors.Is(err, unix.EINVAL):
		e.Kind = ErrUnsupported
		e.Cause = fmt.Sprintf("driver %s refuses XDP with the interface's present settings", nic.Driver)
		e.fix = fmt.Sprintf("large receive offload is the usual reason: `ethtool -K %s lro off`; `dmesg` may say more; or --mode generic, which is slower", nic.Name)
	}
	return e
}

// conflict is another's program on the interface: it is never replaced.
func conflict(nic *Interface, mode Mode) *Error {
	e := &Error{
		Kind: ErrConflict, What: fmt.Sprintf("cannot attach to %s in %s mode", nic.Name, mode),
		Cause: "another XDP program is attached",
		fix: fmt.Sprintf("take it off with the tool that attached it (`bpftool net show dev %s` and `bpftool link` show it; "+
			"`ip link set dev %s xdp off` frees only what no BPF link holds), or run without XDP here", nic.Name, nic.Name),
	}
	if nic.XDP == nil {
		return e
	}
	e.Cause = fmt.Sprintf("another XDP %v is attached", nic.XDP)
	if _, ours := maps.XDPSlot(nic.XDP.Name); ours {
		e.Cause = fmt.Sprintf("another instance's %s (id %d) is attached", nic.XDP.Name, nic.XDP.ID)
		e.fix = "stop that instance, or `xdp-roam --instance NAME unload` it; an interface has one instance"
	}
	return e
}

func diagnoseReplace(err error, f facts) *Error {
	e := &Error{What: fmt.Sprintf("cannot replace the program on %s", f.nic.Name)}
	if errors.Is(err, unix.EINVAL) {
		e.Kind = ErrConflict
		e.Cause = "the attached program is of another make"
		e.fix = "`xdp-roam unload`, then load again"
	}
	return e
}
