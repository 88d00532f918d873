// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

func key(uint8) [16]byte { return [16]byte{1} }

func TestRunLeavesNothing(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	if i.Adopted {
		t.Error("adopted a new instance")
	}
	list := m.attach(i, ModeAuto, "edge0")
	if len(list) != 1 || list[0].Mode != ModeXDP || list[0].Driver != "veth" || list[0].Reason == "" {
		t.Errorf("auto on a veth: %+v", list)
	}
	p := m.attached("edge0")
	if p == nil || p.Name != "roam_xdp" || p.Mode != ModeXDP {
		t.Errorf("on edge0: %v", p)
	}
	want := []string{".", "test", "test/links", "test/links/edge0", "test/maps"}
	for _, name := range maps.Names() {
		want = append(want, "test/maps/"+name)
	}
	slices.Sort(want)
	if got := m.pinned(); !slices.Equal(got, want) {
		t.Errorf("pinned %v, want %v", got, want)
	}
	m.must(i.Close())
	m.wantNothing("edge0")
}

// An interface that is named twice, or by an alternative name, is one interface.
func TestInterfaceUnderSeveralNames(t *testing.T) {
	m := newMachine(t)
	l, err := netlink.LinkByName("edge0")
	m.must(err)
	m.must(netlink.LinkAddAltName(l, "wan"))
	plan, err := MakePlan(m.options, []string{"wan", "edge0", "wan"}, ModeXDP)
	m.must(err)
	if len(plan.Attachments) != 1 || plan.Attachments[0].Interface != "edge0" {
		t.Errorf("plan: %+v", plan.Attachments)
	}
	i := m.open()
	if list := m.attach(i, ModeXDP, "wan", "edge0", "wan"); len(list) != 1 || list[0].Interface != "edge0" {
		t.Errorf("attached: %+v", list)
	}
	m.must(i.Keep())
	m.must(i.Close())
	i = m.open()
	m.attach(i, ModeXDP, "edge0") // takes over what was attached under the other name
	m.must(i.Close())
	names, err := Unload(m.options)
	m.must(err)
	if !slices.Equal(names, []string{"edge0"}) {
		t.Errorf("unloaded %v", names)
	}
	m.wantNothing("edge0")
}

func TestCrashIsAdopted(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Maps.Identify(0, key))
	id, _, err := i.Maps.Sessions.Allocate(maps.KindROAM, 0)
	m.must(err)
	m.must(i.Listen(netip.MustParseAddrPort("192.0.2.1:7626"), 0))
	before := m.attached("edge0")

	// What the kernel does to a process that dies: it closes its files.
	i.closeFiles()
	m.must(i.lock.release())
	if got := m.attached("edge0"); got == nil || *got != *before {
		t.Fatalf("after the crash: %v, want %v", got, before)
	}

	j := m.open()
	if !j.Adopted {
		t.Error("did not adopt")
	}
	if _, err := j.Maps.Sessions.Get(id); err != nil {
		t.Errorf("the slot of the process before: %v", err)
	}
	if len(j.Maps.Listeners.List()) != 1 {
		t.Error("the listener of the process before is gone")
	}
	m.attach(j, ModeXDP, "edge0")
	after := m.attached("edge0")
	if after == nil || after.ID == before.ID {
		t.Errorf("the program was not replaced: %v, before %v", after, before)
	}
	// Nobody asked to keep it: the end of the second process is the end.
	m.must(j.Close())
	m.wantNothing("edge0")
}

func TestCrashedInstanceDropsInterfacesNoLongerNamed(t *testing.T) {
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	i := m.open()
	m.attach(i, ModeXDP, "edge0", "edge1")
	i.closeFiles()
	m.must(i.lock.release())

	j := m.open()
	m.attach(j, ModeXDP, "edge1")
	if p := m.attached("edge0"); p != nil {
		t.Errorf("%v stays on edge0", p)
	}
	if p := m.attached("edge1"); p == nil {
		t.Error("nothing on edge1")
	}
	m.must(j.Close())
	m.wantNothing("edge0", "edge1")
}

func TestLoadKeepsUntilUnload(t *testing.T) {
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	load := func(name string) {
		i := m.open()
		m.attach(i, ModeXDP, name)
		m.must(i.Keep())
		m.must(i.Close())
	}
	load("edge0")
	load("edge0") // a repeated load is no error
	load("edge1") // and a further one adds

	// A daemon takes it over, attaches nothing of its own, and goes.
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Listen(netip.MustParseAddrPort("192.0.2.1:7626"), 0))
	m.must(i.Close())
	for _, name := range []string{"edge0", "edge1"} {
		if m.attached(name) == nil {
			t.Errorf("the operator's program on %s is gone", name)
		}
	}
	s, err := ReadStatus(m.options)
	m.must(err)
	if !s.Kept || s.Owner != 0 || len(s.Attachments) != 2 || len(s.Listeners) != 0 {
		t.Errorf("status after the daemon: %+v", s)
	}

	names, err := Unload(m.options)
	m.must(err)
	if !slices.Equal(names, []string{"edge0", "edge1"}) {
		t.Errorf("unloaded %v", names)
	}
	m.wantNothing("edge0", "edge1")
	_, err = Unload(m.options)
	wantError(t, err, ErrNotLoaded, m.options.BPFFS, "load")
	_, err = ReadStatus(m.options)
	wantError(t, err, ErrNotLoaded)
}

func TestDaemonTakesBackWhatItAddedToAnOperators(t *testing.T) {
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Keep())
	m.must(i.Close())
	j := m.open()
	m.attach(j, ModeXDP, "edge0", "edge1")
	m.must(j.Close())
	if m.attached("edge0") == nil || m.attached("edge1") != nil {
		t.Errorf("edge0 %v, edge1 %v: want the operator's alone", m.attached("edge0"), m.attached("edge1"))
	}
}

func TestOneProcessAtATime(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeAuto)
	me := fmt.Sprintf("process %d", os.Getpid())
	_, err := Open(m.options)
	wantError(t, err, ErrConflict, me)
	_, err = Unload(m.options)
	wantError(t, err, ErrConflict, me)
	_, err = MakePlan(m.options, nil, ModeAuto)
	wantError(t, err, ErrConflict, me)
	s, err := ReadStatus(m.options)
	m.must(err)
	if s.Owner != os.Getpid() {
		t.Errorf("owner %d, want %d", s.Owner, os.Getpid())
	}
	other := m.options
	other.Instance = "other"
	j, err := Open(other)
	m.must(err)
	m.must(j.Close())
	m.must(i.Close())
	m.wantNothing()
}

func TestModes(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeGeneric, "edge0")
	if p := m.attached("edge0"); p == nil || p.Mode != ModeGeneric {
		t.Errorf("generic: %v", p)
	}
	m.attach(i, ModeXDP, "edge0")
	if p := m.attached("edge0"); p == nil || p.Mode != ModeXDP {
		t.Errorf("generic, then xdp: %v", p)
	}
	m.attach(i, ModeSocket, "edge0")
	if p := m.attached("edge0"); p != nil {
		t.Errorf("xdp, then socket: %v", p)
	}
	list := m.attach(i, ModeAuto, "lo")
	if len(list) != 1 || list[0].Mode != ModeSocket || list[0].Reason == "" {
		t.Errorf("auto on lo: %+v", list)
	}
	m.attach(i, ModeGeneric, "lo")
	_, err := i.Attach([]string{"lo"}, ModeXDP)
	wantError(t, err, ErrUnsupported, "lo", "native XDP", "--mode generic", "slower", "--mode auto")
	_, err = i.Attach([]string{"edge0"}, ModeAFXDP)
	wantError(t, err, ErrUnsupported, "afxdp", "needs a running daemon", "run --mode afxdp")
	_, err = i.Attach([]string{"nosuch0"}, ModeAuto)
	wantError(t, err, ErrNoInterface, "nosuch0")
	if _, err = i.Attach(nil, ModeXDP); err == nil {
		t.Error("mode xdp without an interface was taken")
	}
	m.must(i.Detach("lo"))
	m.must(i.Close())
	m.wantNothing("edge0", "lo")
}

// Something stands where the maps are to be renamed to, so the last step fails.
func TestFailedCommitLeavesNothing(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.must(os.MkdirAll(filepath.Join(i.pins.maps, "x"), 0o700))
	_, err := i.Attach([]string{"edge0"}, ModeXDP)
	wantError(t, err, unix.EEXIST, "cannot pin")
	if p := m.attached("edge0"); p != nil {
		t.Errorf("%v stays on edge0", p)
	}
	m.must(os.RemoveAll(i.pins.maps))
	m.attach(i, ModeXDP, "edge0") // and works once that is gone
	m.must(i.Close())
	m.wantNothing("edge0")
}

// Open fails at one step after another, for want of a file descriptor, and
// leaves nothing at any.
func TestFailedOpenLeavesNothing(t *testing.T) {
	m := newMachine(t)
	m.must(m.open().Close()) // what is probed once and remembered
	var before unix.Rlimit
	m.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	restore := func() { m.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }
	defer restore()

	failures := 0
	for limit := uint64(4); ; limit++ {
		m.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: before.Max}))
		i, err := Open(m.options)
		restore()
		if err == nil {
			m.must(i.Close())
			m.wantNothing()
			break
		}
		failures++
		if left := m.pinned(); len(left) != 0 {
			t.Fatalf("with %d descriptors (%v) these stay: %v", limit, err, left)
		}
		if limit > 200 {
			t.Fatalf("does not open: %v", err)
		}
	}
	if want := len(maps.Names()) + 3; failures < want { // maps, lock, netlink, programs
		t.Errorf("only %d failures, expected at least %d", failures, want)
	}
}

func TestUnloadLeavesWhatIsNotOurs(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.must(i.Keep())
	m.must(i.Close())
	stranger := filepath.Join(m.options.BPFFS, "xdp-roam/test/stranger")
	m.must(os.Mkdir(stranger, 0o700))
	if _, err := Unload(m.options); err == nil || !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("unload over a stranger: %v", err)
	}
	if got := m.pinned(); !slices.Equal(got, []string{".", "test", "test/stranger"}) {
		t.Errorf("left: %v", got)
	}
}

func TestNoBPFFS(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	_, err := Open(Options{BPFFS: dir})
	wantError(t, err, ErrUnsupported, dir, "mount -t bpf bpf "+dir)
	_, err = ReadStatus(Options{BPFFS: dir})
	wantError(t, err, ErrUnsupported, "mount -t bpf")
	_, err = Open(Options{BPFFS: filepath.Join(dir, "nosuch")})
	if err == nil || !errors.Is(err, unix.ENOENT) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Open(Options{BPFFS: m.options.BPFFS, Instance: "a/b"}); err == nil {
		t.Error("a path was taken for an instance's name")
	}
}

func TestPlanChangesNothing(t *testing.T) {
	m := newMachine(t)
	plan, err := MakePlan(m.options, []string{"edge0", "lo"}, ModeAuto)
	m.must(err)
	if len(plan.Steps) != 4 || len(plan.Attachments) != 2 || plan.Attachments[0].Mode != ModeXDP || plan.Attachments[1].Mode != ModeSocket {
		t.Errorf("plan: %+v", plan)
	}
	m.wantNothing("edge0", "lo")

	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Keep())
	m.must(i.Close())
	plan, err = MakePlan(m.options, []string{"edge0"}, ModeXDP)
	m.must(err)
	if len(plan.Steps) != 3 || plan.Steps[2] != "replace roam_xdp on edge0 (veth, xdp mode) by an atomic exchange" {
		t.Errorf("plan over pins: %q", plan.Steps)
	}
	other := m.options
	other.Slots = 1024
	_, err = MakePlan(other, nil, ModeXDP)
	wantError(t, err, ErrConflict, "1024")
}
