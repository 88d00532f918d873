// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// Instance is a data plane that this process holds: it alone writes the maps.
type Instance struct {
	// Maps are the instance's maps. Their tables and counters stay readable
	// after Close.
	Maps *maps.Set
	// Adopted tells that the pins were there before: of a process that died,
	// or an operator's.
	Adopted bool
	// Warnings are what makes the data plane worse than it could be.
	Warnings []string

	pins      pins
	lock      *lock
	program   *ebpf.Program // roam_xdp
	sockets   bool          // Options.Sockets
	netlink   *netlink.Handle
	log       *slog.Logger
	committed bool // the maps are pinned where everyone looks for them
	hadKept   bool // the pins were an operator's when we came
	keepThis  bool // Keep was called

	mu       sync.Mutex // guards what follows; Watch shares it
	attached map[string]*attachment
	// slotPrograms are the roam_xdp of interfaces in ModeAFXDP, by their slot.
	slotPrograms [maps.XSKInterfaces]*ebpf.Program
	listening    []listening
	unfiltered   int // addresses for which listeners had no place
}

// listening is an address that the instance's server is bound to.
type listening struct {
	addr  netip.AddrPort
	index uint16
}

// Open takes hold of an instance: it makes its maps, or adopts those that are
// pinned, and loads the programs over them. Nothing is attached yet, and of new
// maps nobody knows before Attach or Keep. When it fails, everything is as before.
//
// The data plane passes everything on until Maps has a listener.
func Open(o Options) (*Instance, error) {
	p, err := o.pins()
	if err != nil {
		return nil, err
	}
	warnings, err := preflight(p.bpffs)
	if err != nil {
		return nil, err
	}
	l, err := acquire(&p, true)
	if err != nil {
		return nil, diagnose(opLock, err, facts{dir: p.root})
	}
	i := &Instance{pins: p, lock: l, Warnings: warnings, log: o.log(), sockets: o.Sockets, attached: make(map[string]*attachment)}
	if err := i.open(o.Slots); err != nil {
		// An adopted instance stays as it was; Close would clear it.
		i.closeFiles()
		if !i.Adopted {
			err = errors.Join(err, p.remove())
		}
		return nil, errors.Join(err, l.release())
	}
	return i, nil
}

// preflight refuses before anything is tried.
func preflight(bpffs string) (warnings []string, err error) {
	caps, err := readCapabilities()
	if err != nil {
		return nil, err
	}
	if warnings, err = caps.check(); err != nil {
		return nil, err
	}
	if err := checkKernel(kernelFeatures); err != nil {
		return nil, err
	}
	return warnings, checkBPFFS(bpffs)
}

func (i *Instance) open(slots uint32) (err error) {
	if i.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	if i.Adopted, err = i.pins.exist(); err != nil {
		return diagnose(opLock, err, facts{dir: i.pins.root})
	}
	if err := i.discard(); err != nil {
		return diagnose(opPin, err, facts{dir: i.pins.root})
	}
	if i.hadKept, err = i.pins.isKept(); err != nil {
		return diagnose(opLock, err, facts{dir: i.pins.root})
	}
	if i.committed = i.Adopted; i.Adopted {
		i.Maps, err = adopt(&i.pins, slots)
	} else {
		i.Maps, err = create(&i.pins, slots)
	}
	if err != nil {
		return err
	}
	programs, err := i.Maps.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		return diagnose(opLoad, err, facts{})
	}
	i.program = programs.XDP
	return nil
}

// discard removes what a process that was killed has left half done.
func (i *Instance) discard() error {
	changing, err := i.pins.changeLinks()
	if err != nil {
		return err
	}
	defer changing.release()
	if i.Adopted {
		return errors.Join(i.pins.discardStaged(), removeDir(i.pins.fresh))
	}
	return i.pins.clear()
}

func create(p *pins, slots uint32) (*maps.Set, error) {
	if slots == 0 {
		slots = maps.DefaultSlots
	}
	set, err := maps.Create(slots)
	if err != nil {
		return nil, diagnose(opCreate, err, facts{slots: slots})
	}
	if err := p.stageMaps(set); err != nil {
		set.Close()
		return nil, diagnose(opPin, err, facts{dir: p.root})
	}
	return set, nil
}

func adopt(p *pins, slots uint32) (*maps.Set, error) {
	set, err := maps.Open(p.maps)
	if err != nil {
		return nil, diagnose(opAdopt, err, facts{dir: p.maps})
	}
	if have := set.Sessions.Capacity(); slots != 0 && slots != have {
		set.Close()
		return nil, &Error{
			Kind: ErrConflict, What: fmt.Sprintf("cannot use the maps pinned in %s", p.maps),
			Cause: fmt.Sprintf("the session table has %d slots, table_slots is %d", have, slots),
			fix:   fmt.Sprintf("set table_slots = %d, or drain the instance, `xdp-roam unload` and load again", have),
		}
	}
	return set, nil
}

// Keep makes what is pinned and attached outlive this process: it is the
// operator's from now on, and `unload` removes it.
func (i *Instance) Keep() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.commit(true)
}

// Load is Open, Attach, Keep and Close in one, and whole: a process that is
// killed meanwhile leaves what was there before, or all that it was to load.
// It returns the attachments and what makes the data plane worse than it could be.
func Load(o Options, interfaces []string, mode Mode) (attachments []Attachment, warnings []string, err error) {
	i, err := Open(o)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	if attachments, err = i.attach(interfaces, mode, true); err != nil {
		return nil, nil, err
	}
	warnings = i.Warnings
	for _, a := range attachments {
		if a.Warning != "" {
			warnings = append(warnings, a.Warning)
		}
	}
	return attachments, warnings, nil
}

// Close lets go of the instance. Unless it is kept, everything that is
// attached and pinned goes; of an operator's instance only what this process
// has attached goes, and its listeners, so that packets pass untouched.
// Watch has returned before.
func (i *Instance) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	changing, err := i.pins.changeLinks()
	if err != nil {
		errs = append(errs, err)
	}
	switch {
	case i.keepThis:
	case i.hadKept:
		errs = append(errs, i.Maps.Listeners.Replace(nil))
		for name, a := range i.attached {
			if a.ours {
				errs = append(errs, i.detach(name))
			}
		}
	default:
		errs = append(errs, i.pins.remove())
	}
	i.closeFiles()
	return errors.Join(append(errs, changing.release(), i.lock.release())...)
}

func (i *Instance) closeFiles() {
	for _, a := range i.attached {
		a.close()
	}
	for _, p := range append(i.slotPrograms[:], i.program) {
		if p != nil {
			p.Close()
		}
	}
	if i.Maps != nil {
		i.Maps.Close()
	}
	if i.netlink != nil {
		i.netlink.Close()
	}
}

// Unload removes an instance: it detaches and unpins all that Open and Attach
// have made, and nothing else. It returns what it detached from. A process that
// uses the instance is a conflict.
func Unload(o Options) ([]string, error) {
	p, err := o.pins()
	if err != nil {
		return nil, err
	}
	caps, err := readCapabilities()
	if err != nil {
		return nil, err
	}
	if _, err := caps.check(); err != nil {
		return nil, err
	}
	if err := checkBPFFS(p.bpffs); err != nil {
		return nil, err
	}
	l, err := acquire(&p, false)
	if errors.Is(err, fs.ErrNotExist) {
		// A load that was killed at once has made only the directory of all.
		return nil, errors.Join(notLoaded(&p), p.removeRoot())
	}
	if err != nil {
		return nil, diagnose(opLock, err, facts{dir: p.root})
	}
	defer l.release()
	changing, err := p.changeLinks()
	if err != nil {
		return nil, err
	}
	defer changing.release()
	names, err := p.linkNames()
	if err != nil {
		return nil, err
	}
	return names, diagnose(opPin, p.remove(), facts{dir: p.root})
}

func notLoaded(p *pins) error {
	e := &Error{
		Kind: ErrNotLoaded, What: fmt.Sprintf("nothing is loaded in %s", p.root),
		fix: "`xdp-roam load` or `xdp-roam run` loads it; use --instance and --bpffs to look elsewhere",
	}
	if names, err := p.linkNames(); err == nil && len(names) > 0 {
		e.Cause = "a process that was killed has left its program, which passes all packets on, on " + strings.Join(names, ", ")
		e.fix = "`xdp-roam unload` takes it off; `xdp-roam load` or `xdp-roam run` loads anew"
	}
	return e
}
