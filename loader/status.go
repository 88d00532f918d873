// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// Status is an instance as its pins and the kernel show it, whether or not a
// daemon runs.
type Status struct {
	Pins   string // its directory
	Kept   bool   // the pins are an operator's and outlive a daemon
	Owner  int    // process that holds the instance, 0: none
	Schema uint32 // of the pinned maps; what follows is empty if it is not maps.Schema

	Attachments []Attachment
	Slots, Live uint32
	Listeners   []maps.Listener
}

// ReadStatus looks at an instance and changes nothing. It returns an error that
// wraps ErrNotLoaded where there is none.
func ReadStatus(o Options) (*Status, error) {
	p, err := o.pins()
	if err != nil {
		return nil, err
	}
	if err := checkBPFFS(p.bpffs); err != nil {
		return nil, err
	}
	s := &Status{Pins: p.root, Owner: owner(&p)}
	if s.Kept, err = p.isKept(); err != nil {
		return nil, diagnose(opLock, err, facts{dir: p.root})
	}
	if s.Schema, err = maps.PinnedSchema(p.maps); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, notLoaded(&p)
		}
		return nil, diagnose(opAdopt, err, facts{dir: p.maps})
	}
	if s.Attachments, err = readAttachments(&p); err != nil {
		return nil, err
	}
	if s.Schema != maps.Schema {
		return s, nil
	}
	set, err := maps.OpenReadOnly(p.maps)
	if err != nil {
		return nil, diagnose(opAdopt, err, facts{dir: p.maps})
	}
	defer set.Close()
	s.Slots, s.Live = set.Sessions.Capacity(), set.Sessions.Len()
	s.Listeners = set.Listeners.List()
	return s, nil
}

// owner returns the process that holds the instance's lock, or 0.
func owner(p *pins) int {
	dir, err := os.Open(p.root)
	if err != nil {
		return 0
	}
	defer dir.Close()
	return lockOwner(dir)
}

// readAttachments compares the pinned links with the interfaces of their names.
func readAttachments(p *pins) ([]Attachment, error) {
	names, err := p.linkNames()
	if err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer handle.Close()
	var list []Attachment
	for _, name := range names {
		a, err := readAttachment(p, handle, name)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// The kernel shows no difference between the two causes.
const degradedDetached = "the program is not on it any more: the interface was made anew, or a change of mode was cut short; `xdp-roam load` or `run` attaches it again"

func readAttachment(p *pins, handle *netlink.Handle, name string) (Attachment, error) {
	a := Attachment{Interface: name}
	l, err := openLink(p.link(name))
	if err != nil || l == nil {
		return a, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return a, fmt.Errorf("reading the link pinned for %s: %w", name, err)
	}
	a.Program = uint32(info.Program)
	nic, err := readInterface(handle, name)
	if errors.Is(err, ErrNoInterface) {
		a.Degraded = "the interface is gone"
		return a, nil
	}
	if err != nil {
		return a, err
	}
	a.Ifindex, a.Driver = nic.Index, nic.Driver
	switch {
	case !onInterface(info, nic.Index):
		a.Degraded = degradedDetached
	case nic.XDP != nil:
		a.Mode = nic.XDP.Mode
	}
	return a, nil
}
