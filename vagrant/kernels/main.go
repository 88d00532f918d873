// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command kernels runs privileged tests on other kernels, and on NICs that this
// machine need not have: it takes Debian's cloud kernels, packs the test binaries with
// a one-process init into an initramfs and boots that under qemu (emulated: no
// /dev/kvm needed).
//
//	go run ./vagrant/kernels            # 6.1, the oldest kernel supported
//	go run ./vagrant/kernels -kernel 6.1 -kernel 6.12
//	go run ./vagrant/kernels -zerocopy  # AF_XDP zero-copy over two virtio NICs, on 6.18 (as root)
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// plan is what runs on a kernel.
type plan struct {
	suites  []suite
	modules []string // what Debian's cloud kernels build as modules; what they depend on comes by itself
	queues  int      // of each of two NICs that a wire joins; 0: there are none
}

// suite is a package's tests.
type suite struct {
	dir  string
	args []string
}

// dataPlane is everything that talks to the kernel through BPF or AF_XDP.
var dataPlane = plan{
	suites:  []suite{{dir: "bpf"}, {dir: "maps"}, {dir: "loader"}, {dir: "userspace/netio"}},
	modules: []string{"veth"},
}

// zeroCopy is the tests of AF_XDP sockets, with virtio NICs in place of their veths.
// There is one pair of NICs, so tests do not run side by side.
var zeroCopy = plan{
	suites: []suite{
		{"userspace/netio", []string{"-test.parallel=1", "-test.run=XSK"}},
		{"cmd/xdp-roam", []string{"-test.parallel=1", "-test.run=AFXDP|ZeroCopy|RunWithoutItsQueue"}},
	},
	modules: []string{"virtio_net", "veth"},
	queues:  cpus,
}

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	var kernels list
	flag.Var(&kernels, "kernel", "Debian cloud kernel `series`, may be repeated (default 6.1; with -zerocopy 6.18)")
	zerocopy := flag.Bool("zerocopy", false, "run the AF_XDP tests over two virtio NICs, which have zero-copy from Linux 6.13 on (root)")
	only := flag.String("run", "", "run only the tests that match `regexp`")
	timeout := flag.Duration("timeout", 25*time.Minute, "for each kernel")
	cache := flag.String("cache", ".cache/kernels", "where downloaded kernels are kept")
	flag.Parse()
	p, series := dataPlane, "6.1"
	if *zerocopy {
		p, series = zeroCopy, "6.18"
	}
	if len(kernels) == 0 {
		kernels = list{series}
	}
	if *only != "" {
		for i := range p.suites {
			p.suites[i].args = append(p.suites[i].args, "-test.run="+*only)
		}
	}
	for _, k := range kernels {
		if err := p.testOn(k, *cache, *timeout); err != nil {
			fmt.Fprintf(os.Stderr, "kernels: %s: %v\n", k, err)
			os.Exit(1)
		}
	}
}

func (p *plan) testOn(series, cache string, timeout time.Duration) error {
	work, err := os.MkdirTemp("", "xdp-roam-kernel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tree, err := fetch(series, cache)
	if err != nil {
		return err
	}
	image, err := one(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil {
		return err
	}
	initrd := filepath.Join(work, "initrd")
	if err := p.buildInitramfs(initrd, work, tree); err != nil {
		return err
	}
	m := machine{image: image, initrd: initrd, queues: p.queues}
	if p.queues > 0 {
		if err := m.addDevices(); err != nil {
			return err
		}
		defer m.network.Close()
	}
	return m.boot(timeout)
}
