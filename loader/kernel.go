// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

type kernelFeature struct {
	name  string
	since string
	probe func() error
}

// kernelFeatures is what the programs use, newest first: the first that is
// missing names the version to ask for.
var kernelFeatures = []kernelFeature{
	{"the coarse clock for BPF (bpf_ktime_get_coarse_ns)", "5.11", func() error {
		return features.HaveProgramHelper(ebpf.XDP, asm.FnKtimeGetCoarseNs)
	}},
	{"the BPF ring buffer", "5.8", func() error { return features.HaveMapType(ebpf.RingBuf) }},
	{"AF_XDP socket maps", "4.18", func() error { return features.HaveMapType(ebpf.XSKMap) }},
	{"socket choice by BPF (sk_reuseport)", "4.19", func() error { return features.HaveProgramType(ebpf.SkReuseport) }},
	{"XDP", "4.8", func() error { return features.HaveProgramType(ebpf.XDP) }},
}

// checkKernel probes for what the programs need. A probe that cannot tell is
// left to the load itself.
func checkKernel(features []kernelFeature) error {
	for _, f := range features {
		if err := f.probe(); errors.Is(err, ebpf.ErrNotSupported) {
			return &Error{
				Kind: ErrUnsupported,
				What: fmt.Sprintf("this kernel (%s) lacks %s", kernelRelease(), f.name),
				fix:  fmt.Sprintf("Linux has it since %s; this program is tested on 6.1 and later", f.since),
			}
		}
	}
	return nil
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown release"
	}
	return unix.ByteSliceToString(u.Release[:])
}
