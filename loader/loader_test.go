// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// machine is a network and a mount namespace of a test's own, with a bpffs and
// a veth pair edge0 (ours) and far0. It ends with the test's thread.
type machine struct {
	testing.TB
	options Options
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	testutil.RequirePrivileged(t)
	runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		testutil.SkipOrFail(t, "cannot make namespaces: "+err.Error())
	}
	m := &machine{TB: t}
	m.must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	bpffs := t.TempDir()
	m.must(unix.Mount("bpf", bpffs, "bpf", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(bpffs, unix.MNT_DETACH) })
	m.options = Options{BPFFS: bpffs, Instance: "test", Slots: 64}
	m.addVeth("edge0", "far0", 1500)
	return m
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) addVeth(name, peer string, mtu int) {
	m.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu, TxQLen: -1, NumTxQueues: 1, NumRxQueues: 1}, PeerName: peer}
	m.must(netlink.LinkAdd(veth))
	for _, n := range []string{name, peer} {
		l, err := netlink.LinkByName(n)
		m.must(err)
		m.must(netlink.LinkSetMTU(l, mtu))
		m.must(netlink.LinkSetUp(l))
	}
}

func (m *machine) removeLink(name string) {
	m.Helper()
	l, err := netlink.LinkByName(name)
	m.must(err)
	m.must(netlink.LinkDel(l))
}

func (m *machine) open() *Instance {
	m.Helper()
	i, err := Open(m.options)
	m.must(err)
	return i
}

func (m *machine) attach(i *Instance, mode Mode, interfaces ...string) []Attachment {
	m.Helper()
	list, err := i.Attach(interfaces, mode)
	m.must(err)
	return list
}

// attached returns what the kernel shows on the interface.
func (m *machine) attached(name string) *AttachedProgram {
	m.Helper()
	nic, err := ReadInterface(name)
	m.must(err)
	return nic.XDP
}

// setSchema makes the pinned maps those of another version.
func (m *machine) setSchema(schema byte) {
	m.Helper()
	config, err := ebpf.LoadPinnedMap(filepath.Join(m.options.BPFFS, "xdp-roam/test/maps/config"), nil)
	m.must(err)
	defer config.Close()
	value, err := config.LookupBytes(uint32(0))
	m.must(err)
	value[0] = schema
	m.must(config.Put(uint32(0), value))
}

// pinned lists every path below xdp-roam.
func (m *machine) pinned() []string {
	m.Helper()
	var list []string
	root := filepath.Join(m.options.BPFFS, "xdp-roam")
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			rel, _ := filepath.Rel(root, path)
			list = append(list, rel)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.Fatal(err)
	}
	return list
}

// wantNothing checks that no trace is left.
func (m *machine) wantNothing(interfaces ...string) {
	m.Helper()
	if list := m.pinned(); len(list) != 0 {
		m.Errorf("left behind: %v", list)
	}
	for _, name := range interfaces {
		if p := m.attached(name); p != nil {
			m.Errorf("%v is left on %s", p, name)
		}
	}
}

// wantError checks an error's kind and that its text and fix hold the words.
func wantError(t testing.TB, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%v, want an error of kind %v", err, kind)
		return
	}
	text := err.Error()
	var e *Error
	if errors.As(err, &e) {
		text += "\n" + e.Fix()
		if e.Fix() == "" {
			t.Errorf("%v says no fix", err)
		}
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
}
