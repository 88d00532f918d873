// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"fmt"
	"slices"

	"github.com/xdp-roam/xdp-roam/maps"
)

// Plan is what Open and Attach would do.
type Plan struct {
	Steps       []string
	Attachments []Attachment // the mode that each interface would get, and why
	Warnings    []string
}

// MakePlan runs every check that needs no change to the system and returns what
// Open and Attach would do then, or the error that they would return. The
// verifier and the driver may still refuse.
func MakePlan(o Options, interfaces []string, mode Mode) (*Plan, error) {
	p, err := o.pins()
	if err != nil {
		return nil, err
	}
	if err := mode.available(o.Sockets); err != nil {
		return nil, err
	}
	plan := &Plan{}
	if plan.Warnings, err = preflight(p.bpffs); err != nil {
		return nil, err
	}
	if err := plan.addMaps(o, &p); err != nil {
		return nil, err
	}
	for _, name := range interfaces {
		if err := plan.addInterface(&p, name, mode, o.Sockets); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

func (plan *Plan) step(format string, args ...any) {
	plan.Steps = append(plan.Steps, fmt.Sprintf(format, args...))
}

func (plan *Plan) addMaps(o Options, p *pins) error {
	if pid := owner(p); pid != 0 {
		l, err := acquire(p, false)
		if err != nil {
			return diagnose(opLock, err, facts{dir: p.root})
		}
		defer l.release() // it has ended meanwhile
	}
	exist, err := p.exist()
	if err != nil {
		return diagnose(opLock, err, facts{dir: p.root})
	}
	if exist {
		set, err := adopt(p, o.Slots)
		if err != nil {
			return err
		}
		defer set.Close()
		plan.step("adopt the maps pinned in %s (%d slots, %d live)", p.maps, set.Sessions.Capacity(), set.Sessions.Len())
	} else {
		slots := o.Slots
		if slots == 0 {
			slots = maps.DefaultSlots
		}
		if err := maps.CheckSlots(slots); err != nil {
			return diagnose(opCreate, err, facts{slots: slots})
		}
		plan.step("make the maps and pin them in %s: a session table of %d slots (%d KiB)", p.maps, slots, slots/16)
	}
	plan.step("load roam_xdp and roam_socket")
	return nil
}

func (plan *Plan) addInterface(p *pins, name string, asked Mode, sockets bool) error {
	nic, err := ReadInterface(name)
	if err != nil {
		return err
	}
	mode, reason, err := choose(nic, asked, sockets)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(plan.Attachments, func(a Attachment) bool { return a.Ifindex == nic.Index }) {
		return nil // named twice, or by another of its names
	}
	name = nic.Name
	a := Attachment{Interface: name, Ifindex: nic.Index, Driver: nic.Driver, Mode: mode, Reason: reason, Warning: nic.warning(mode)}
	plan.Attachments = append(plan.Attachments, a)
	if a.Warning != "" {
		plan.Warnings = append(plan.Warnings, a.Warning)
	}
	if mode == ModeSocket {
		plan.step("leave %s without XDP (%s)", name, reason)
		return nil
	}
	pinned, err := openLink(p.link(name))
	if err != nil {
		return err
	}
	if pinned != nil {
		defer pinned.Close()
		if info, err := pinned.Info(); err == nil && onInterface(info, nic.Index) {
			plan.step("replace roam_xdp on %s (%s, %s mode) by an atomic exchange", name, nic.Driver, mode)
			return nil
		}
	}
	if nic.XDP != nil {
		return conflict(nic, mode)
	}
	plan.step("attach roam_xdp to %s (%s) in %s mode (%s)", name, nic.Driver, mode, reason)
	return nil
}
