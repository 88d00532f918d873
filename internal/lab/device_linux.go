// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/rtdump"
)

// DevicesEnv names two network devices, by the hardware addresses that they were made
// with and a comma between, that a wire joins: Connect then uses them in place of a
// veth pair, so that the same tests speak of the devices' driver. As there is one pair
// of them, one such test runs at a time. vagrant/kernels sets it in its machines.
const DevicesEnv = "XDP_ROAM_LAB_DEVICES"

// Devices reports whether Connect uses devices that are there (DevicesEnv).
func Devices() bool { return os.Getenv(DevicesEnv) != "" }

// connectDevices brings the two devices to their namespaces.
func connectDevices(ports ...Port) error {
	addresses := strings.Split(os.Getenv(DevicesEnv), ",")
	if len(addresses) != len(ports) {
		return fmt.Errorf("%s=%q: write two hardware addresses", DevicesEnv, os.Getenv(DevicesEnv))
	}
	for i, p := range ports {
		mac, err := net.ParseMAC(addresses[i])
		if err != nil {
			return fmt.Errorf("%s: %w", DevicesEnv, err)
		}
		if err := p.take(mac); err != nil {
			return fmt.Errorf("namespace %s: taking device %s as %s: %w", p.NS.name, mac, p.Link, err)
		}
	}
	for _, p := range ports {
		if err := errors.Join(p.addresses(), p.setUp()); err != nil {
			return err
		}
	}
	for _, p := range ports {
		if p.Down {
			return nil
		}
	}
	for _, p := range ports {
		if err := p.NS.WaitUp(p.Link); err != nil {
			return err
		}
	}
	return nil
}

// take moves a device from the first namespace, where it is or soon comes back to
// when the namespace goes that had it last, and makes it as new.
func (p Port) take(mac net.HardwareAddr) error {
	var found netlink.Link
	for end := time.Now().Add(time.Minute); found == nil; time.Sleep(10 * time.Millisecond) {
		list, err := rtdump.Whole(netlink.LinkList)
		if err != nil {
			return err
		}
		for _, l := range list {
			if l.Attrs().PermHWAddr.String() == mac.String() {
				found = l
			}
		}
		if time.Now().After(end) {
			return errors.New("there is no such device, or another test has it still")
		}
	}
	index := found.Attrs().Index
	if err := netlink.LinkSetNsFd(found, p.NS.fd); err != nil {
		return err
	}
	runtime.KeepAlive(p.NS)
	h := p.NS.handle
	l, err := h.LinkByIndex(index)
	if err != nil { // another device of the namespace had the index
		return err
	}
	if p.MAC != nil {
		mac = p.MAC
	}
	if err := errors.Join(h.LinkSetDown(l), h.LinkSetName(l, p.Link), h.LinkSetMTU(l, 1500), h.LinkSetHardwareAddr(l, mac)); err != nil {
		return err
	}
	return p.NS.SetQueues(p.Link, max(1, p.Queues))
}

// SetQueues gives a device so many queues, each to send by and to receive by
// (ethtool -L combined).
func (n *Namespace) SetQueues(link string, queues int) error {
	arg := struct {
		command  uint32
		_        [4]uint32 // at most
		_        [3]uint32 // only to receive, only to send, for other things
		combined uint32
	}{command: unix.ETHTOOL_SCHANNELS, combined: uint32(queues)}
	return n.ethtoolIoctl(link, arg.command, unsafe.Pointer(&arg))
}
