// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/rtdump"
	"github.com/xdp-roam/xdp-roam/loader/ethtool"
	"github.com/xdp-roam/xdp-roam/maps"
)

// Support says whether a driver can do something.
type Support uint8

// Kernels before 6.3 do not tell what a driver can do.
const (
	SupportUnknown Support = iota
	SupportNo
	SupportYes
)

// Interface is what there is to know about an interface before XDP is tried.
type Interface struct {
	Name   string
	Index  int
	Kind   string // rtnetlink's: device, veth, vlan, bond, ...
	Driver string // ethtool's, or the kind
	MTU    int
	Encap  string // ether, loopback, none, ...
	Master string // the bond that it is part of
	Parent string // the device under a VLAN
	Native Support
	// Redirect: the driver can redirect frames, to AF_XDP sockets among others.
	Redirect Support
	// ZeroCopy: the driver lets AF_XDP sockets have the NIC's own memory.
	ZeroCopy Support
	// Queues is how many receive queues are in use; 1 where the driver does not tell.
	Queues int
	XDP    *AttachedProgram // nil: none
	// Untagged is a VLAN on this interface whose tag the NIC takes off before
	// XDP sees the frame; empty: none.
	Untagged string
}

// AttachedProgram is an XDP program as the interface shows it.
type AttachedProgram struct {
	ID   uint32
	Name string
	Mode Mode
	// Components names the programs that libxdp's dispatcher runs, if it is one.
	Components string
}

func (p *AttachedProgram) String() string {
	if p.Name == "" {
		return fmt.Sprintf("program %d", p.ID)
	}
	return fmt.Sprintf("program %q (id %d)", p.Name, p.ID)
}

// ReadInterface reads about an interface of this thread's network namespace.
func ReadInterface(name string) (*Interface, error) {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer links.Close()
	return readInterface(links, name)
}

func readInterface(links *netlink.Handle, name string) (*Interface, error) {
	l, err := links.LinkByName(name)
	if err != nil {
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			return nil, &Error{
				Kind: ErrNoInterface, What: fmt.Sprintf("there is no interface %q", name),
				fix: "`ip link` lists the interfaces of this network namespace", Err: err,
			}
		}
		return nil, fmt.Errorf("reading about interface %s: %w", name, err)
	}
	a := l.Attrs()
	nic := &Interface{
		Name: a.Name, Index: a.Index, Kind: l.Type(), MTU: a.MTU, Encap: a.EncapType,
		Driver: driverName(a.Name), Queues: receiveQueues(a.Name),
	}
	nic.readXDPFeatures()
	if nic.Driver == "" {
		nic.Driver = nic.Kind
	}
	if nic.Kind == "vlan" {
		nic.Parent = nameOfIndex(links, a.ParentIndex)
	}
	if _, slave := a.Slave.(*netlink.BondSlave); slave {
		nic.Master = nameOfIndex(links, a.MasterIndex)
	}
	nic.XDP = attachedProgram(a.Xdp)
	if nic.XDP != nil && nic.XDP.Name == dispatcherName {
		nic.XDP.Components = dispatched(a.Index, nic.XDP.ID)
	}
	if stripsVLANTags(nic.Name) {
		nic.Untagged = vlanOn(links, nic.Index)
	}
	return nic, nil
}

func nameOfIndex(links *netlink.Handle, index int) string {
	if l, err := links.LinkByIndex(index); err == nil {
		return l.Attrs().Name
	}
	return fmt.Sprintf("interface %d", index)
}

// attachedProgram reads the program's name from the kernel where it may.
func attachedProgram(x *netlink.LinkXdp) *AttachedProgram {
	if x == nil || !x.Attached {
		return nil
	}
	p := &AttachedProgram{ID: x.ProgId, Mode: ModeXDP}
	if x.AttachMode == nl.XDP_ATTACHED_SKB {
		p.Mode = ModeGeneric
	}
	if prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(x.ProgId)); err == nil {
		if info, err := prog.Info(); err == nil {
			p.Name = info.Name
		}
		prog.Close()
	}
	return p
}

// dispatcherName is what the kernel shows of libxdp's dispatcher, which runs
// several programs on an interface, each in the place of one of its functions.
const dispatcherName = "xdp_dispatcher"

// dispatched names the programs of a dispatcher, as far as libxdp's pins tell.
func dispatched(index int, id uint32) string {
	pins, _ := filepath.Glob(filepath.Join(DefaultBPFFS, "xdp", fmt.Sprintf("dispatch-%d-%d", index, id), "prog*-prog"))
	var names []string
	for _, pin := range pins {
		p, err := ebpf.LoadPinnedProgram(pin, &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil {
			names = append(names, info.Name)
		}
		p.Close()
	}
	return strings.Join(names, ", ")
}

// driverName asks ethtool; some virtual devices have no answer.
func driverName(name string) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.Driver[:])
}

// vlanOn names a VLAN of the interface, if there is one.
func vlanOn(links *netlink.Handle, parent int) string {
	list, err := rtdump.Whole(links.LinkList)
	if err != nil {
		return ""
	}
	for _, l := range list {
		if l.Type() == "vlan" && l.Attrs().ParentIndex == parent {
			return l.Attrs().Name
		}
	}
	return ""
}

// stripsVLANTags asks ethtool whether the driver hands a frame's tag to the
// stack beside the frame (rxvlan).
func stripsVLANTags(name string) bool {
	const rxVLAN = 1 << 8 // ETH_FLAG_RXVLAN
	value := struct{ command, data uint32 }{command: unix.ETHTOOL_GFLAGS}
	return ethtool.Query(name, &value) == nil && value.data&rxVLAN != 0
}

// receiveQueues asks ethtool for the channels (ethtool -l).
func receiveQueues(name string) int {
	value := struct {
		command                            uint32
		_                                  [4]uint32 // at most
		receive, transmit, other, combined uint32
	}{command: unix.ETHTOOL_GCHANNELS}
	if ethtool.Query(name, &value) != nil {
		return 1
	}
	return max(1, int(value.receive+value.combined))
}

// readXDPFeatures enters what the driver can do with XDP, where the kernel tells.
func (nic *Interface) readXDPFeatures() {
	const (
		actBasic    = 1 // NETDEV_XDP_ACT_BASIC
		actRedirect = 2 // NETDEV_XDP_ACT_REDIRECT
		actZeroCopy = 8 // NETDEV_XDP_ACT_XSK_ZEROCOPY
	)
	if features, known := xdpFeatures(nic.Index); known {
		nic.Native, nic.Redirect, nic.ZeroCopy = supports(features, actBasic), supports(features, actRedirect), supports(features, actZeroCopy)
	}
}

// xdpFeatures asks the netdev family (Linux 6.3) for the driver's XDP features: the
// one way to know without attaching something.
func xdpFeatures(index int) (features uint64, known bool) {
	const (
		cmdDevGet       = 1 // NETDEV_CMD_DEV_GET
		attrIfindex     = 1 // NETDEV_A_DEV_IFINDEX
		attrXDPFeatures = 3 // NETDEV_A_DEV_XDP_FEATURES
	)
	family, known := genericFamily("netdev")
	if !known {
		return 0, false
	}
	value, known := genericAttr(family, cmdDevGet, nl.NewRtAttr(attrIfindex, nl.Uint32Attr(uint32(index))), attrXDPFeatures, 8)
	if !known {
		return 0, false
	}
	return binary.NativeEndian.Uint64(value), true
}

func supports(features, feature uint64) Support {
	if features&feature != 0 {
		return SupportYes
	}
	return SupportNo
}

// mtuLimit is the largest MTU at which one page holds a packet with XDP's head
// room (256), the Ethernet header and the skb_shared_info behind it (320), as
// drivers demand it of programs without fragments. Some want less.
func mtuLimit() int { return os.Getpagesize() - 256 - 320 - 14 }

// singlePage are the drivers known to refuse a larger MTU outright.
var singlePage = map[string]bool{"veth": true, "virtio_net": true}

// zeroCopyMute are drivers that fail to send back (XDP_TX) a frame that lies in an AF_XDP
// socket's memory: virtio_net needs room for its own header before a frame, which the
// kernel's conversion of such a frame leaves none for. Seen on Linux 6.18.
var zeroCopyMute = map[string]bool{"virtio_net": true}

// warning says what cannot be seen to fail: RETRY that is counted as sent and
// reaches nobody. The other end of a veth is in another network namespace as a
// rule, so nobody here can look whether it has a ring for what XDP sends.
func (nic *Interface) warning(mode Mode) string {
	switch {
	case mode.attached() != ModeXDP:
		return ""
	case mode == ModeAFXDP && nic.Queues > maps.XSKQueues:
		return fmt.Sprintf("%s has %d receive queues, and AF_XDP sockets are for the first %d: the others' packets come by UDP sockets; `ethtool -L %s combined %d` has no more", nic.Name, nic.Queues, maps.XSKQueues, nic.Name, maps.XSKQueues)
	case nic.Untagged != "":
		return fmt.Sprintf("%s hides VLAN tags from XDP: when cookies are demanded, RETRY to clients on %s leaves without its tag; `ethtool -K %s rxvlan off` shows them", nic.Name, nic.Untagged, nic.Name)
	case nic.Kind == "veth":
		return fmt.Sprintf("%s is a veth: when cookies are demanded, RETRY reaches nobody unless an XDP program is attached to the pair's other end too; without one use mode generic, or `run --mode socket`", nic.Name)
	}
	return ""
}

// checkXDP says whether roam_xdp can run on the interface in the mode, as far
// as that can be known without trying.
func (nic *Interface) checkXDP(mode Mode) error {
	refuse := func(cause, fix string) error {
		return &Error{
			Kind: ErrUnsupported, What: fmt.Sprintf("cannot attach to %s in %s mode", nic.Name, mode), Cause: cause, fix: fix,
		}
	}
	switch {
	case nic.Parent != "":
		return refuse("it is a VLAN", fmt.Sprintf("attach to its parent %s: the program reads VLAN tags, if `ethtool -K %s rxvlan off` lets it", nic.Parent, nic.Parent))
	case nic.Master != "":
		return refuse("it is part of a bond", fmt.Sprintf("attach to the bond %s", nic.Master))
	case nic.Encap != "ether" && nic.Encap != "loopback":
		return refuse(fmt.Sprintf("it is a layer 3 device (%s) without Ethernet headers", nic.Kind), "attach to the Ethernet device under it, or use --mode auto, which does without XDP here")
	case mode == ModeGeneric:
		return nil
	case nic.Native == SupportNo || nic.Encap == "loopback":
		return refuse(fmt.Sprintf("driver %s has no native XDP", nic.Driver), fixNoNative)
	case singlePage[nic.Driver] && nic.MTU > mtuLimit():
		return refuse(fmt.Sprintf("its MTU %d is too large for XDP", nic.MTU), fixMTU(nic))
	}
	return nil
}
