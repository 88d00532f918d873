// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

// What loading looks at before it tries anything, for whoever wants to look
// alone: xdp-roam doctor.

// CheckCapabilities returns an error where this thread lacks a capability that
// loading takes, else what is worse without the others.
func CheckCapabilities() (warnings []string, err error) {
	caps, err := readCapabilities()
	if err != nil {
		return nil, err
	}
	return caps.check()
}

// CheckBPFFS makes sure that a BPF file system is mounted at dir.
func CheckBPFFS(dir string) error { return checkBPFFS(dir) }

// KernelRelease is what `uname -r` says.
func KernelRelease() string { return kernelRelease() }

// Feature is something of the kernel that the programs use.
type Feature struct {
	Name  string
	Since string // the version of Linux that brought it
	Err   error  // of the probe: wraps ebpf.ErrNotSupported where it is missing
}

// ProbeKernel probes for all that the programs use.
func ProbeKernel() []Feature {
	var list []Feature
	for _, f := range kernelFeatures {
		list = append(list, Feature{f.name, f.since, f.probe()})
	}
	return list
}

// CheckXDP says why roam_xdp cannot run on the interface in ModeXDP or
// ModeGeneric, as far as that can be known without trying.
func (nic *Interface) CheckXDP(mode Mode) error { return nic.checkXDP(mode) }

// Warning says what would not work on the interface in a mode that does
// elsewhere; empty: nothing.
func (nic *Interface) Warning(mode Mode) string { return nic.warning(mode) }

// Conflict says whose the program is that is on the interface now.
func (nic *Interface) Conflict() error { return conflict(nic, ModeXDP) }
