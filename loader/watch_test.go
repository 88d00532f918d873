// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// start runs f in a goroutine in this machine's namespaces.
func (m *machine) start(f func()) {
	m.Helper()
	open := func(path string) *os.File {
		file, err := os.Open(path)
		m.must(err)
		return file
	}
	network, mounts := open("/proc/thread-self/ns/net"), open("/proc/thread-self/ns/mnt")
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(int(mounts.Fd()), unix.CLONE_NEWNS)
		}
		if err == nil {
			err = unix.Setns(int(network.Fd()), unix.CLONE_NEWNET)
		}
		network.Close()
		mounts.Close()
		entered <- err
		if err == nil {
			f()
		}
	}()
	m.must(<-entered)
}

// watch runs Watch until the test ends and returns the changes it reports.
func (m *machine) watch(i *Instance) (changes chan Attachment, stop func()) {
	m.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	changes = make(chan Attachment, 16)
	ended := make(chan error, 1)
	m.start(func() { ended <- i.Watch(ctx, func(a Attachment) { changes <- a }) })
	stop = func() {
		m.Helper()
		cancel()
		if err := <-ended; err != nil {
			m.Errorf("Watch: %v", err)
		}
	}
	return changes, stop
}

// patience is what a busy machine may take for what an idle one does at once.
const patience = 30 * time.Second

// eventually waits until ok returns true.
func (m *machine) eventually(what string, ok func() bool) {
	m.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (m *machine) addAddr(name, cidr string) *netlink.Addr {
	m.Helper()
	l, err := netlink.LinkByName(name)
	m.must(err)
	a, err := netlink.ParseAddr(cidr)
	m.must(err)
	m.must(netlink.AddrAdd(l, a))
	return a
}

func hasListener(i *Instance, addr string) bool {
	return slices.ContainsFunc(i.Maps.Listeners.List(), func(l maps.Listener) bool {
		return l.Addr == netip.MustParseAddrPort(addr) && l.Index == 3
	})
}

// degraded returns the attachments that are not as they should be.
func degraded(s *Status) []Attachment {
	return slices.DeleteFunc(slices.Clone(s.Attachments), func(a Attachment) bool { return a.Degraded == "" })
}

func TestWatchFollowsAddresses(t *testing.T) {
	m := newMachine(t)
	m.addAddr("edge0", "192.0.2.1/24")
	i := m.open()
	m.must(i.Listen(netip.MustParseAddrPort("[::]:7626"), 3))
	m.must(i.Listen(netip.MustParseAddrPort("198.51.100.1:9000"), 3)) // not an address here (yet)
	for _, addr := range []string{"192.0.2.1:7626", "[::]:7626", "198.51.100.1:9000"} {
		if !hasListener(i, addr) {
			t.Errorf("%s is not in %v", addr, i.Maps.Listeners.List())
		}
	}
	_, stop := m.watch(i)
	six := m.addAddr("edge0", "2001:db8::7/64")
	m.eventually("the new address is a listener", func() bool { return hasListener(i, "[2001:db8::7]:7626") })
	l, err := netlink.LinkByName("edge0")
	m.must(err)
	m.must(netlink.AddrDel(l, six))
	m.eventually("the removed address is none", func() bool { return !hasListener(i, "[2001:db8::7]:7626") })
	if !hasListener(i, "192.0.2.1:7626") {
		t.Error("the address that stayed is gone")
	}
	stop()
	m.must(i.Close())
}

// On a host on which something changes all the time (a container manager, another
// routing daemon) what concerns us is seen all the same.
func TestWatchAmongEndlessChanges(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.must(i.Listen(netip.MustParseAddrPort("0.0.0.0:7626"), 3))
	_, stop := m.watch(i)
	busy, quiet := make(chan struct{}), make(chan struct{})
	m.start(func() {
		defer close(quiet)
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Error(err)
			return
		}
		other := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(127, 0, 0, 77), Mask: net.CIDRMask(32, 32)}}
		for pause := time.NewTicker(watchSettle / 4); ; <-pause.C {
			select {
			case <-busy:
				pause.Stop()
				return
			default:
			}
			if err := errors.Join(netlink.AddrAdd(lo, other), netlink.AddrDel(lo, other)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	m.addAddr("edge0", "192.0.2.1/24")
	m.eventually("the new address is a listener", func() bool { return hasListener(i, "192.0.2.1:7626") })
	close(busy)
	<-quiet
	stop()
	m.must(i.Close())
}

func TestListenOnIPv4Alone(t *testing.T) {
	m := newMachine(t)
	m.addAddr("edge0", "192.0.2.1/24")
	m.addAddr("edge0", "2001:db8::7/64")
	i := m.open()
	m.must(i.Listen(netip.MustParseAddrPort("0.0.0.0:7626"), 3))
	if !hasListener(i, "192.0.2.1:7626") || hasListener(i, "[2001:db8::7]:7626") {
		t.Errorf("listeners of 0.0.0.0: %v", i.Maps.Listeners.List())
	}
	m.must(i.Close())
}

// More addresses than the table has places: those of interfaces with XDP come
// first, and the rest is said.
func TestMoreAddressesThanPlaces(t *testing.T) {
	m := newMachine(t)
	for n := range 400 {
		m.addAddr("lo", fmt.Sprintf("10.0.%d.%d/32", n>>8, n&255))
	}
	m.addAddr("edge0", "192.0.2.1/24")
	var log strings.Builder
	m.options.Log = slog.New(slog.NewTextHandler(&log, nil))
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Listen(netip.MustParseAddrPort("0.0.0.0:7626"), 3))
	if !hasListener(i, "192.0.2.1:7626") || !hasListener(i, "[::]:7626") {
		t.Error("the interface's own address or the one for any is not among the listeners")
	}
	if n := len(i.Maps.Listeners.List()); n < 128 {
		t.Errorf("%d listeners of 256", n)
	}
	if !strings.Contains(log.String(), "unfiltered addresses") {
		t.Errorf("log: %q", log.String())
	}
	lo, err := netlink.LinkByName("lo")
	m.must(err)
	for n := range 400 {
		a, err := netlink.ParseAddr(fmt.Sprintf("10.0.%d.%d/32", n>>8, n&255))
		m.must(err)
		m.must(netlink.AddrDel(lo, a))
	}
	log.Reset()
	if !i.reconcile(nil) || !strings.Contains(log.String(), "level=INFO") || strings.Contains(log.String(), "level=WARN") {
		t.Errorf("with all of them known: %q", log.String())
	}
	m.must(i.Close())
}

func TestWatchAttachesAgain(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	changes, stop := m.watch(i)
	// An interface that is going can be degraded for more than one reason in turn.
	expect := func(degraded string) {
		t.Helper()
		timeout := time.After(patience)
		for {
			select {
			case a := <-changes:
				if a.Interface == "edge0" && a.Degraded == degraded {
					return
				}
			case <-timeout:
				t.Fatalf("not reported: degraded %q; it is %+v", degraded, i.Attachments())
			}
		}
	}

	m.removeLink("edge0")
	expect("the interface is gone")
	s, err := ReadStatus(m.options)
	m.must(err)
	if d := degraded(s); len(d) != 1 || d[0].Degraded != "the interface is gone" {
		t.Errorf("status: %+v", s)
	}

	m.addVeth("edge0", "far0", 1500)
	expect("")
	if p := m.attached("edge0"); p == nil || p.Name != "roam_xdp" {
		t.Errorf("on the new edge0: %v", p)
	}
	s, err = ReadStatus(m.options)
	m.must(err)
	if len(degraded(s)) != 0 || s.Attachments[0].Mode != ModeXDP {
		t.Errorf("status: %+v", s)
	}

	// Made anew with something that another process attached first: said, not forced.
	m.removeLink("edge0")
	expect("the interface is gone")
	stop()
	m.addVeth("edge0", "far0", 1500)
	foreign(m, "edge0")
	changes, stop = m.watch(i)
	m.eventually("the conflict is said", func() bool {
		list := i.Attachments()
		return len(list) == 1 && list[0].Degraded != "the interface is gone"
	})
	if d := i.Attachments()[0].Degraded; d == "" {
		t.Error("attached over another's program")
	}
	stop()
	m.must(i.Close())
	if p := m.attached("edge0"); p == nil || p.Name != "somebody_else" {
		t.Errorf("on edge0: %v", p)
	}
	m.wantNothing()
}

// While another process changes links, perhaps one that waits for this one to answer, an
// interface that comes back waits for its program, and nobody waits for that.
func TestWatchHoldsNobodyUp(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	other, err := i.pins.changeLinks()
	m.must(err)
	m.removeLink("edge0")
	m.addVeth("edge0", "far0", 1500)
	_, stop := m.watch(i)
	m.eventually("it is said that edge0 has to wait", func() bool {
		answer := make(chan string, 1)
		go func() { answer <- i.Attachments()[0].Degraded }()
		select {
		case degraded := <-answer:
			return strings.Contains(degraded, "another process")
		case <-time.After(patience):
			m.must(other.release())
			t.Fatal("status waits for another process")
			return false
		}
	})
	m.must(other.release())
	m.eventually("edge0 has its program", func() bool { return i.Attachments()[0].Degraded == "" && m.attached("edge0") != nil })
	stop()
	m.must(i.Close())
}

// An interface can come back without XDP before anyone saw it go.
func TestWatchSeesAnotherMode(t *testing.T) {
	for name, remake := range map[string]func(m *machine){
		"known beforehand": func(m *machine) { m.addVeth("edge0", "far0", 9000) },
		"the driver refuses": func(m *machine) {
			err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "edge0"}})
			if errors.Is(err, unix.EOPNOTSUPP) {
				m.Skip("this kernel has no bridge")
			}
			m.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			i := m.open()
			m.attach(i, ModeAuto, "edge0")
			m.removeLink("edge0")
			remake(m)
			if !i.reconcile(nil) {
				t.Errorf("not whole: %+v", i.Attachments())
			}
			if a := i.Attachments()[0]; a.Mode != ModeSocket || a.Degraded != "" || a.Warning != "" {
				t.Errorf("without XDP: %+v", a)
			}
			m.must(i.Close())
			m.wantNothing()
		})
	}
}

// A link that nobody watches is reported as what it is.
func TestStatusOfALinkWithoutItsInterface(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Keep())
	m.must(i.Close())
	m.removeLink("edge0")
	m.addVeth("edge0", "far0", 1500)
	s, err := ReadStatus(m.options)
	m.must(err)
	if d := degraded(s); len(d) != 1 || d[0].Degraded != degradedDetached {
		t.Errorf("status: %+v", s)
	}
	// The next load mends it.
	i = m.open()
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Close())
	if m.attached("edge0") == nil {
		t.Error("not attached again")
	}
	_, err = Unload(m.options)
	m.must(err)
	m.wantNothing("edge0")
}

func TestInterfaceNameWithADot(t *testing.T) {
	m := newMachine(t)
	m.addVeth("ed.ge1", "far1", 1500)
	i := m.open()
	m.attach(i, ModeXDP, "ed.ge1")
	s, err := ReadStatus(m.options)
	m.must(err)
	if len(s.Attachments) != 1 || s.Attachments[0].Interface != "ed.ge1" || s.Attachments[0].Degraded != "" {
		t.Errorf("status: %+v", s.Attachments)
	}
	m.must(i.Close())
	m.wantNothing("ed.ge1")
}
