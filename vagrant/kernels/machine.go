// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// machine is what qemu is to run.
type machine struct {
	image, initrd string
	network       *lab.Namespace // nil: none
	queues        int            // of each NIC
}

// deviceAddresses are the NICs' hardware addresses, by which tests know them.
var deviceAddresses = []string{"52:54:00:12:34:01", "52:54:00:12:34:02"}

// cpus is also how many queues a NIC has: with more of one than of the other, frames
// come to queues that are not in use.
const cpus = 2

// addDevices gives the machine two NICs and joins them by a bridge, in a network
// namespace of its own. Only a tap has several queues.
func (m *machine) addDevices() error {
	n, err := lab.NewNamespace("kernels")
	if err != nil {
		return fmt.Errorf("%w (with NICs it takes root)", err)
	}
	m.network = n
	return n.Do(func() error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "wire"}, MulticastSnooping: new(bool)}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("making a bridge: %w", err)
		}
		flags := netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR
		if m.queues > 1 {
			flags |= netlink.TUNTAP_MULTI_QUEUE
		}
		for i := range deviceAddresses {
			tap := &netlink.Tuntap{
				LinkAttrs: netlink.LinkAttrs{Name: tapName(i), MasterIndex: bridge.Index, MTU: 9000}, Mode: netlink.TUNTAP_MODE_TAP, Queues: m.queues, Flags: flags,
			}
			if err := netlink.LinkAdd(tap); err != nil {
				return fmt.Errorf("making a tap: %w", err)
			}
			for _, f := range tap.Fds {
				f.Close() // it stays, for qemu to open
			}
			if err := netlink.LinkSetUp(tap); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(bridge)
	})
}

func tapName(i int) string { return fmt.Sprintf("tap%d", i) }

// deviceArgs are qemu's for the NICs: with a platform that has a say in what they may
// access, or the driver gives its memory to no AF_XDP socket.
func (m *machine) deviceArgs() (args []string) {
	for i, mac := range deviceAddresses {
		args = append(args,
			"-netdev", fmt.Sprintf("tap,id=n%d,ifname=%s,script=no,downscript=no,vhost=off,queues=%d", i, tapName(i), m.queues),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=n%d,mac=%s,mq=on,vectors=%d,iommu_platform=on,disable-legacy=on,romfile=", i, mac, 2*m.queues+2))
	}
	return args
}

// boot runs the machine, echoes its console and judges by init's last line.
func (m *machine) boot(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// accel=tcg: works everywhere, also where /dev/kvm exists but hangs. thread=single:
	// the kernel patches the call in its XDP dispatcher when a program is exchanged, and
	// an emulated CPU on a thread of its own may run the breakpoint of that patch after
	// the patch is done: an int3 that no kernel expects, a panic that no real CPU shows.
	args := []string{
		"-accel", "tcg,thread=single", "-cpu", "max", "-smp", fmt.Sprint(cpus), "-m", "2048",
		"-nographic", "-no-reboot", "-kernel", m.image, "-initrd", m.initrd,
	}
	kernelArgs := "console=ttyS0 quiet panic=-1 loglevel=3"
	start := (*exec.Cmd).Start
	if m.network == nil {
		args = append(args, "-net", "none")
	} else {
		args = append(args, m.deviceArgs()...)
		// What the kernel does not know it gives to init as its environment.
		kernelArgs += " " + lab.DevicesEnv + "=" + strings.Join(deviceAddresses, ",")
		start = m.network.Start
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(args, "-append", kernelArgs)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := start(cmd); err != nil {
		return fmt.Errorf("%w (install qemu-system-x86)", err)
	}
	verdict := ""
	in := bufio.NewReader(stdout)
	for {
		line, err := in.ReadString('\n')
		fmt.Print(line)
		if strings.HasPrefix(line, "KERNELTEST ") {
			verdict = strings.TrimSpace(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("qemu: %w (after %s at most)", err, timeout)
	}
	if !strings.HasSuffix(verdict, " ok") {
		return fmt.Errorf("tests did not pass: last word was %q", verdict)
	}
	return nil
}
