// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Attachment is one interface as the data plane has it.
type Attachment struct {
	Interface string
	Ifindex   int
	Driver    string
	Mode      Mode   // ModeAFXDP, ModeXDP, ModeGeneric, or ModeSocket where nothing is attached
	Reason    string // why this mode
	Program   uint32 // kernel's id of the attached program, 0: none
	Degraded  string // why it is not as it should be; empty: it is
	Warning   string // what does not work here that does elsewhere; empty: nothing

	// In ModeAFXDP: the interface's slot in maps.XSKs, and its receive queues,
	// each of which wants a socket there. MTU bounds its frames.
	Slot, Queues, MTU int
	// ZeroCopyMute: in zero-copy the driver loses what XDP sends, which is RETRY.
	ZeroCopyMute bool
}

// attachment is an interface that the instance looks after.
type attachment struct {
	Attachment
	asked Mode
	link  link.Link // nil in ModeSocket and while degraded
	fresh bool      // the link is not pinned yet: it ends with this process
	ours  bool      // attached by this process, not adopted
}

func (a *attachment) close() {
	if a.link != nil {
		a.link.Close()
		a.link = nil
	}
}

// Attach brings roam_xdp to the interfaces, in the mode that is asked for. A
// link that is pinned already gets the program by an atomic exchange. It does
// all or nothing: after an error every interface is as before (without
// CAP_SYS_ADMIN an exchanged program stays, which works over the same maps). It
// returns what it chose for each interface, and why.
//
// Links of an instance that a dead process has left go from interfaces that
// are not named; an operator's stay.
//
// New links are pinned together, as the last step: a process that is killed
// before has attached nothing, or what it has attached ends with it.
func (i *Instance) Attach(interfaces []string, mode Mode) ([]Attachment, error) {
	return i.attach(interfaces, mode, i.keepThis)
}

func (i *Instance) attach(interfaces []string, mode Mode, keep bool) ([]Attachment, error) {
	if err := mode.available(i.sockets); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(interfaces) == 0 && (mode == ModeAFXDP || mode == ModeXDP || mode == ModeGeneric) {
		return nil, &Error{What: fmt.Sprintf("mode %s needs an interface", mode), fix: "specify one, or use mode auto or socket"}
	}
	changing, err := i.pins.changeLinks()
	if err != nil {
		return nil, err
	}
	defer changing.release()

	var t transaction
	var result []Attachment
	for _, name := range interfaces {
		nic, err := readInterface(i.netlink, name)
		if err == nil && slices.ContainsFunc(result, func(a Attachment) bool { return a.Ifindex == nic.Index }) {
			continue // named twice, or by another of its names
		}
		var a *attachment
		if err == nil {
			a, err = i.attachOne(&t, nic, mode)
		}
		if err != nil {
			return nil, errors.Join(err, t.rollback())
		}
		result = append(result, a.Attachment)
	}
	if err := i.commit(keep); err != nil {
		return nil, errors.Join(err, t.rollback(), i.pins.discardStaged())
	}
	t.commit()
	return result, i.pins.discardStaged()
}

// commit makes what is attached, and the maps, what everyone finds pinned.
func (i *Instance) commit(keep bool) error {
	err := i.pinLinks(keep)
	if err == nil && keep {
		err = i.pins.keep()
	}
	if err == nil && !i.committed {
		err = i.pins.commitMaps()
	}
	if err != nil {
		return diagnose(opPin, err, facts{dir: i.pins.root})
	}
	i.committed, i.keepThis = true, i.keepThis || keep
	return nil
}

// pinLinks pins the new links and drops those of interfaces on which nothing
// is to be attached: the ones in ModeSocket, and in a dead process's instance
// the ones that were not named. The caller discards the dropped ones.
func (i *Instance) pinLinks(keep bool) error {
	fresh := make(map[string]link.Link)
	for name, a := range i.attached {
		if a.fresh {
			fresh[name] = a.link
		}
	}
	stays := func(name string) bool {
		if a := i.attached[name]; a != nil {
			return a.Mode != ModeSocket
		}
		return i.hadKept || i.keepThis || keep
	}
	names, err := i.pins.linkNames()
	if err != nil {
		return err
	}
	if len(fresh) == 0 && i.committed && !slices.ContainsFunc(names, func(n string) bool { return !stays(n) }) {
		return nil
	}
	if err := i.pins.stageLinks(fresh, stays); err != nil {
		return err
	}
	if err := i.pins.commitLinks(); err != nil {
		return err
	}
	for name := range fresh {
		i.attached[name].fresh = false
	}
	return nil
}

// transaction is how to go back, and what to tidy up where nobody has to.
type transaction struct {
	undo []func() error
	tidy []func()
}

func (t *transaction) rollback() error {
	var errs []error
	for _, f := range slices.Backward(t.undo) {
		errs = append(errs, f())
	}
	t.commit()
	return errors.Join(errs...)
}

func (t *transaction) commit() {
	for _, f := range t.tidy {
		f()
	}
}

// attachOne attaches to one interface and enters it under its proper name: it may have
// been asked for by an alternative one.
func (i *Instance) attachOne(t *transaction, nic *Interface, asked Mode) (*attachment, error) {
	name := nic.Name
	a := &attachment{asked: asked}
	if err := i.decide(nic, a); err != nil {
		return nil, err
	}
	// A link that ModeSocket has no use for goes in pinLinks, when nothing
	// can fail any more.
	if a.Mode != ModeSocket {
		if err := i.attachAsAsked(t, nic, a); err != nil {
			return nil, err
		}
	}
	before := i.attached[name]
	i.attached[name] = a
	t.undo = append(t.undo, func() error {
		delete(i.attached, name)
		if before != nil {
			i.attached[name] = before
		}
		return nil
	})
	if before != nil {
		t.tidy = append(t.tidy, func() {
			if i.attached[name] != before {
				before.close()
			}
		})
	}
	return a, nil
}

// decide chooses the mode for an interface and enters what is known of it.
func (i *Instance) decide(nic *Interface, a *attachment) error {
	mode, reason, err := choose(nic, a.asked, i.sockets)
	if err != nil {
		return err
	}
	slot := 0
	if mode == ModeAFXDP {
		slot, err = i.freeSlot(nic.Name)
		if err != nil && a.asked != ModeAuto {
			return err
		}
		if err != nil {
			mode, reason = ModeXDP, fmt.Sprintf("driver %s has native XDP; %s", nic.Driver, causeOf(err))
		}
	}
	a.Attachment = Attachment{
		Interface: nic.Name, Ifindex: nic.Index, Driver: nic.Driver, Mode: mode, Reason: reason, Warning: nic.warning(mode),
		Slot: slot, Queues: nic.Queues, MTU: nic.MTU, ZeroCopyMute: zeroCopyMute[nic.Driver],
	}
	return nil
}

// attachAsAsked attaches in the mode chosen. In ModeAuto it does without XDP
// where the driver turns out to refuse it: not every kernel tells beforehand.
func (i *Instance) attachAsAsked(t *transaction, nic *Interface, a *attachment) error {
	err := i.attachLink(t, nic, a)
	if a.asked == ModeAuto && errors.Is(err, ErrUnsupported) {
		a.Mode, a.Reason, a.Warning = ModeSocket, "no XDP: "+causeOf(err), ""
		return nil
	}
	return err
}

// attachLink gives the interface a link with our program: the pinned one if it
// is on this interface and in this mode, else a new one.
func (i *Instance) attachLink(t *transaction, nic *Interface, a *attachment) error {
	program, err := i.programOf(a)
	if err != nil {
		return err
	}
	pinned, err := openLink(i.pins.link(nic.Name))
	if err != nil {
		return err
	}
	if pinned == nil {
		a.ours = true
		return attachNew(t, nic, a, program)
	}
	info, err := pinned.Info()
	if err != nil {
		pinned.Close()
		return fmt.Errorf("reading the link pinned for %s: %w", nic.Name, err)
	}
	if before := i.attached[nic.Name]; before != nil {
		a.ours = before.ours
	}
	if xdp := info.XDP(); xdp == nil || int(xdp.Ifindex) != nic.Index || nic.XDP == nil || nic.XDP.ID != uint32(info.Program) {
		// Of an interface that was removed since, or its namesake. The dead
		// link stays until there is a new one: it is what status goes by.
		pinned.Close()
		return attachNew(t, nic, a, program)
	}
	old := i.oldProgram(t, info.Program)
	if nic.XDP.Mode == a.Mode.attached() {
		return exchange(t, nic, a, pinned, program, old)
	}
	// A link keeps its mode, so another mode takes another link, and the kernel
	// wants the one detached before the other.
	if err := errors.Join(pinned.Detach(), pinned.Close()); err != nil {
		return diagnose(opDetach, err, facts{nic: nic})
	}
	oldMode := nic.XDP.Mode
	nic.XDP = nil
	t.undo = append(t.undo, func() error {
		l, err := newLink(nic, old, oldMode)
		if err != nil {
			return err
		}
		defer l.Close()
		stays := func(string) bool { return true }
		return errors.Join(i.pins.stageLinks(map[string]link.Link{nic.Name: l}, stays), i.pins.commitLinks(), i.pins.discardStaged())
	})
	return attachNew(t, nic, a, program)
}

// oldProgram opens a program to go back to. Opening by id takes CAP_SYS_ADMIN,
// which a service need not have: then our own, over the same maps, has to do.
func (i *Instance) oldProgram(t *transaction, id ebpf.ProgramID) *ebpf.Program {
	old, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return i.program
	}
	t.tidy = append(t.tidy, func() { old.Close() })
	return old
}

// exchange lets the pinned link run our program from one packet to the next.
func exchange(t *transaction, nic *Interface, a *attachment, pinned link.Link, program, old *ebpf.Program) error {
	if err := pinned.Update(program); err != nil {
		pinned.Close()
		return diagnose(opReplace, err, facts{nic: nic})
	}
	a.link, a.Program = pinned, programID(program)
	t.undo = append(t.undo, func() error {
		defer a.close()
		return diagnose(opReplace, pinned.Update(old), facts{nic: nic})
	})
	return nil
}

func attachNew(t *transaction, nic *Interface, a *attachment, program *ebpf.Program) error {
	l, err := newLink(nic, program, a.Mode)
	if err != nil {
		return err
	}
	a.link, a.fresh, a.Program = l, true, programID(program)
	t.undo = append(t.undo, func() error {
		defer a.close()
		return removeLink(l)
	})
	return nil
}

// newLink attaches a program to an interface without one.
func newLink(nic *Interface, program *ebpf.Program, mode Mode) (link.Link, error) {
	if nic.XDP != nil {
		return nil, conflict(nic, mode)
	}
	flags := link.XDPDriverMode
	if mode == ModeGeneric {
		flags = link.XDPGenericMode
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: nic.Index, Flags: flags})
	if err != nil {
		return nil, diagnose(opAttach, err, facts{nic: nic, mode: mode})
	}
	return l, nil
}

// Detach takes roam_xdp off an interface.
func (i *Instance) Detach(name string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	changing, err := i.pins.changeLinks()
	if err != nil {
		return err
	}
	defer changing.release()
	if err := i.detach(name); err != nil {
		return err
	}
	delete(i.attached, name)
	return nil
}

func (i *Instance) detach(name string) error {
	if a := i.attached[name]; a != nil {
		a.close()
	}
	return unpinLink(i.pins.link(name))
}

// Attachments returns the interfaces that the instance looks after, by name.
func (i *Instance) Attachments() []Attachment {
	i.mu.Lock()
	defer i.mu.Unlock()
	var list []Attachment
	for _, a := range i.attached {
		if a.link != nil { // an upgrade may have exchanged it
			if info, err := a.link.Info(); err == nil {
				a.Program = uint32(info.Program)
			}
		}
		list = append(list, a.Attachment)
	}
	slices.SortFunc(list, func(a, b Attachment) int {
		if a.Interface < b.Interface {
			return -1
		}
		return 1
	})
	return list
}

func programID(p *ebpf.Program) uint32 {
	info, err := p.Info()
	if err != nil {
		return 0
	}
	id, _ := info.ID()
	return uint32(id)
}
