// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/loader/ethtool"
	"github.com/xdp-roam/xdp-roam/maps"
)

// addQueues makes a veth pair whose near end can have so many receive queues.
func (m *machine) addQueues(name, peer string, queues int) {
	m.Helper()
	m.must(netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500, TxQLen: -1, NumTxQueues: queues, NumRxQueues: queues},
		// XDP wants no fewer receive queues than the pair's other end sends by.
		PeerName: peer, PeerNumTxQueues: 1, PeerNumRxQueues: uint32(queues),
	}))
	for _, n := range []string{name, peer} {
		l, err := netlink.LinkByName(n)
		m.must(err)
		m.must(netlink.LinkSetUp(l))
	}
}

// setQueues is `ethtool -L NAME rx N tx N`.
func (m *machine) setQueues(name string, n uint32) {
	m.Helper()
	value := struct {
		command                            uint32
		max                                [4]uint32
		receive, transmit, other, combined uint32
	}{command: unix.ETHTOOL_GCHANNELS}
	m.must(ethtool.Query(name, &value))
	value.command, value.receive, value.transmit = unix.ETHTOOL_SCHANNELS, n, n
	m.must(ethtool.Query(name, &value))
}

func TestAFXDP(t *testing.T) {
	m := newMachine(t)
	m.addQueues("edge1", "far1", 3)
	m.options.Sockets = true
	i := m.open()
	for _, mode := range []Mode{ModeAFXDP, ModeAuto} {
		list := m.attach(i, mode, "edge0", "edge1")
		for n, want := range []Attachment{
			{Interface: "edge0", Slot: 0, Queues: 1, MTU: 1500},
			{Interface: "edge1", Slot: 1, Queues: 3, MTU: 1500},
		} {
			a := list[n]
			if a.Mode != ModeAFXDP || a.Interface != want.Interface || a.Slot != want.Slot || a.Queues != want.Queues || a.MTU != want.MTU || a.Degraded != "" {
				t.Errorf("mode %s: %+v, want %+v", mode, a, want)
			}
			if p := m.attached(a.Interface); p == nil || p.Mode != ModeXDP || p.ID != a.Program {
				t.Errorf("mode %s: on %s is %v, not program %d", mode, a.Interface, p, a.Program)
			}
		}
		if list[0].Program == list[1].Program {
			t.Error("two interfaces share a program, which knows one slot")
		}
		if mode == ModeAuto && !strings.Contains(list[0].Reason, "native XDP and the kernel AF_XDP") {
			t.Errorf("auto says %q", list[0].Reason)
		}
	}
	// Back to UDP sockets on one of them: its place becomes free, the other's stays.
	if a := m.attach(i, ModeXDP, "edge0")[0]; a.Mode != ModeXDP || a.Slot != 0 {
		t.Errorf("%+v", a)
	}
	if a := m.attach(i, ModeAFXDP, "edge1")[0]; a.Slot != 1 {
		t.Errorf("%+v", a)
	}
	m.must(i.Close())
	m.wantNothing("edge0", "edge1")
}

// Without sockets behind it, auto does not choose what needs them.
func TestAFXDPNeedsSockets(t *testing.T) {
	m := newMachine(t)
	i := m.open()
	if a := m.attach(i, ModeAuto, "edge0")[0]; a.Mode != ModeXDP {
		t.Errorf("auto: %+v", a)
	}
	m.must(i.Close())
	_, err := MakePlan(m.options, []string{"edge0"}, ModeAFXDP)
	wantError(t, err, ErrUnsupported, "needs a running daemon")
}

func TestAFXDPInterfacesAreLimited(t *testing.T) {
	m := newMachine(t)
	m.options.Sockets = true
	i := m.open()
	var names []string
	for n := range maps.XSKInterfaces {
		names = append(names, fmt.Sprintf("many%d", n))
		m.addVeth(names[n], fmt.Sprintf("other%d", n), 1500)
	}
	m.attach(i, ModeAFXDP, names...)
	_, err := i.Attach([]string{"edge0"}, ModeAFXDP)
	wantError(t, err, ErrUnsupported, "16 interfaces", "mode xdp")
	if a := m.attach(i, ModeAuto, "edge0")[0]; a.Mode != ModeXDP || !strings.Contains(a.Reason, "16 interfaces") {
		t.Errorf("auto: %+v", a)
	}
	m.must(i.Close())
}

// The watch tells of queues that come and go, and of an interface made anew, which
// keeps its slot.
func TestWatchFollowsQueues(t *testing.T) {
	m := newMachine(t)
	m.addQueues("edge1", "far1", 2)
	m.setQueues("edge1", 1)
	m.options.Sockets = true
	i := m.open()
	m.attach(i, ModeAFXDP, "edge0", "edge1")
	changes, stop := m.watch(i)
	have := func(what string, ok func(Attachment) bool) {
		t.Helper()
		m.eventually(what, func() bool {
			for {
				select {
				case a := <-changes:
					if a.Interface == "edge1" && ok(a) {
						return true
					}
				default:
					return false
				}
			}
		})
	}
	m.setQueues("edge1", 2)
	have("two queues", func(a Attachment) bool { return a.Queues == 2 && a.Degraded == "" })
	m.setQueues("edge1", 1)
	have("one queue", func(a Attachment) bool { return a.Queues == 1 && a.Degraded == "" })
	before := i.Attachments()[1]
	m.removeLink("edge1")
	have("gone", func(a Attachment) bool { return a.Degraded != "" })
	m.addQueues("edge1", "far1", 2)
	have("there again", func(a Attachment) bool {
		return a.Degraded == "" && a.Mode == ModeAFXDP && a.Slot == before.Slot && a.Queues == 2 && a.Ifindex != before.Ifindex
	})
	stop()
	m.must(i.Close())
}

func TestCheckAFXDP(t *testing.T) {
	ether := Interface{Name: "eth0", Kind: "device", Driver: "mlx5_core", MTU: 1500, Encap: "ether", Native: SupportYes, Redirect: SupportYes, Queues: 8}
	with := func(change func(*Interface)) *Interface {
		nic := ether
		change(&nic)
		return &nic
	}
	for name, test := range map[string]struct {
		nic  *Interface
		want string
	}{
		"bond":        {with(func(n *Interface) { n.Kind = "bond" }), "no receive queues of its own"},
		"no redirect": {with(func(n *Interface) { n.Redirect = SupportNo }), "mlx5_core cannot redirect"},
		"no XDP":      {with(func(n *Interface) { n.Native = SupportNo }), "no native XDP"},
	} {
		wantError(t, test.nic.checkAFXDP(), ErrUnsupported, "eth0", test.want)
		mode, reason, err := choose(test.nic, ModeAuto, true)
		if mode == ModeAFXDP || !strings.Contains(reason, test.want) || err != nil {
			t.Errorf("%s: auto chooses %s because %s, %v", name, mode, reason, err)
		}
	}
	many := with(func(n *Interface) { n.Queues = 96 })
	if w := many.warning(ModeAFXDP); !strings.Contains(w, "96 receive queues") || !strings.Contains(w, "combined 64") {
		t.Errorf("warning: %q", w)
	}
	if w := ether.warning(ModeAFXDP); w != "" {
		t.Errorf("warning: %q", w)
	}
}
