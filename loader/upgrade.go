// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// Upgraded is what an Upgrade did on one interface.
type Upgraded struct {
	Interface     string
	Before, After uint32 // kernel's ids of the programs; equal where it was left alone
	Degraded      string // why it was left alone; empty: it was exchanged
}

// UpgradeReport is what Upgrade has done.
type UpgradeReport struct {
	Interfaces []Upgraded
	// Owner is the daemon that runs, or 0. Its sockets keep its own roam_socket until
	// OfferSocketProgram, and an interface that is made anew gets its own roam_xdp until
	// it starts anew.
	Owner    int
	Warnings []string // what makes the data plane worse than it could be
}

// Upgrade exchanges roam_xdp on every interface of an instance for this
// version's, older or newer, over the same maps: one atomic step for each
// interface, with no packet lost, also while a daemon serves sessions. Either
// all interfaces get it or, after an error, none (a program to go back to takes
// CAP_SYS_ADMIN). Maps of another schema are a conflict: nothing is touched.
func Upgrade(o Options) (*UpgradeReport, error) {
	p, err := o.pins()
	if err != nil {
		return nil, err
	}
	warnings, err := preflight(p.bpffs)
	if err != nil {
		return nil, err
	}
	changing, err := p.changeLinks()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notLoaded(&p)
	}
	if err != nil {
		return nil, err
	}
	defer changing.release()
	u := upgrade{pins: &p, programs: make(map[int]*ebpf.Program)}
	defer u.close()
	if err := u.prepare(); err != nil {
		return nil, err
	}
	if err := u.exchange(); err != nil {
		return nil, errors.Join(err, u.t.rollback())
	}
	u.t.commit()
	return &UpgradeReport{Interfaces: u.done, Owner: owner(&p), Warnings: warnings}, nil
}

// upgrade is one in progress.
type upgrade struct {
	pins     *pins
	netlink  *netlink.Handle
	maps     *maps.Set
	programs map[int]*ebpf.Program // by the slot of maps.XDPSlot
	links    []upgradeLink
	done     []Upgraded
	t        transaction
}

type upgradeLink struct {
	nic  *Interface
	link link.Link
	slot int
}

func (u *upgrade) close() {
	for _, l := range u.links {
		l.link.Close()
	}
	for _, p := range u.programs {
		p.Close()
	}
	if u.maps != nil {
		u.maps.Close()
	}
	if u.netlink != nil {
		u.netlink.Close()
	}
}

// prepare does all that can fail before anything is touched: it opens the maps
// and the links, and loads a program for each kind of attachment.
func (u *upgrade) prepare() (err error) {
	if there, err := u.pins.exist(); err != nil || !there {
		return errors.Join(err, notLoaded(u.pins))
	}
	if u.maps, err = adopt(u.pins, 0); err != nil {
		return err
	}
	if u.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	names, err := u.pins.linkNames()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := u.prepareLink(name); err != nil {
			return err
		}
	}
	for _, l := range u.links {
		if u.programs[l.slot] != nil {
			continue
		}
		program, err := loadXDP(u.maps, l.slot)
		if err != nil {
			return diagnose(opLoad, err, facts{})
		}
		u.programs[l.slot] = program
	}
	return nil
}

// loadXDP loads the roam_xdp of an interface slot, or with -1 the one without
// AF_XDP sockets.
func loadXDP(set *maps.Set, slot int) (*ebpf.Program, error) {
	if slot >= 0 {
		return set.LoadXDP(slot)
	}
	programs, err := set.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		return nil, err
	}
	return programs.XDP, nil
}

// prepareLink opens a link. One that is not on its interface any more is left
// alone: a daemon's Watch, or the next load, mends that.
func (u *upgrade) prepareLink(name string) error {
	a, err := readAttachment(u.pins, u.netlink, name)
	if err != nil {
		return err
	}
	if a.Degraded != "" {
		u.done = append(u.done, Upgraded{Interface: name, Before: a.Program, After: a.Program, Degraded: a.Degraded})
		return nil
	}
	nic, err := readInterface(u.netlink, name)
	if err != nil {
		return err
	}
	if nic.XDP == nil || nic.XDP.Name == "" {
		return &Error{
			Kind: ErrPermission, What: fmt.Sprintf("cannot tell which program runs on %s", name),
			fix: "run it as root: looking up a program by id requires CAP_SYS_ADMIN",
		}
	}
	slot, ours := maps.XDPSlot(nic.XDP.Name)
	if !ours {
		return diagnose(opReplace, unix.EINVAL, facts{nic: nic})
	}
	l, err := openLink(u.pins.link(name))
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("the link of %s has just gone", name)
	}
	u.links = append(u.links, upgradeLink{nic, l, slot})
	return nil
}

func (u *upgrade) exchange() error {
	for _, l := range u.links {
		program, before := u.programs[l.slot], ebpf.ProgramID(l.nic.XDP.ID)
		old, oldErr := ebpf.NewProgramFromID(before)
		if oldErr == nil {
			u.t.tidy = append(u.t.tidy, func() { old.Close() })
		}
		if err := l.link.Update(program); err != nil {
			return diagnose(opReplace, err, facts{nic: l.nic})
		}
		if oldErr == nil {
			u.t.undo = append(u.t.undo, func() error { return diagnose(opReplace, l.link.Update(old), facts{nic: l.nic}) })
		}
		u.done = append(u.done, Upgraded{Interface: l.nic.Name, Before: uint32(before), After: programID(program)})
	}
	return nil
}
