// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// afxdpStatus waits until the status shows what is right about edge0's sockets.
func (b *labBench) afxdpStatus(what string, right func(control.Interface) bool) {
	b.t.Helper()
	until(b.t, what, func() bool {
		s := items[control.Status](b, "status")
		return len(s) == 1 && len(s[0].Interfaces) == 1 && s[0].Interfaces[0].AFXDP != nil && right(s[0].Interfaces[0])
	})
}

// packetsOf sums the counters that match.
func packetsOf(counters []control.Counter, match func(control.Counter) bool) (sum uint64) {
	for _, c := range counters {
		if match(c) {
			sum += c.Value
		}
	}
	return sum
}

// accounted checks that each packet that the data plane has handed on, by either
// way, was counted once by the server, or as dropped at an AF_XDP socket.
func (b *labBench) accounted() {
	b.t.Helper()
	var handed, met uint64
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); { // packets may be on their way
		counters := items[control.Counter](b, "stats")
		handed = packetsOf(counters, func(c control.Counter) bool {
			return c.Verdict == "redirect" || c.Stage == "socket" && c.Verdict == "deliver"
		})
		met = packetsOf(counters, func(c control.Counter) bool {
			return c.Stage == "server" && c.Verdict != "event" && c.Reason != "datagram_queue_full" &&
				c.Reason != "datagram_too_large" && c.Reason != "send_refused"
		})
		if handed == met {
			return
		}
	}
	b.t.Errorf("%d packets were handed on, %d were met: %+v", handed, met, items[control.Counter](b, "stats"))
}

func isRedirected(c control.Counter) bool { return c.Stage == "xdp" && c.Reason == "main_xsk" }

// afxdpArgs ask for AF_XDP sockets, and for zero-copy where the driver has it.
func afxdpArgs() []string {
	args := []string{"--mode", "afxdp", "--interface", "edge0"}
	if lab.Devices() {
		args = append(args, "--cookie", "never") // else virtio_net goes without
	}
	return args
}

// TestRunAFXDP is the main job over AF_XDP sockets: a client's packets come by
// them, it moves, the edge's interface is made anew under it with more queues, and
// every packet is accounted for.
func TestRunAFXDP(t *testing.T) {
	b := newLabBench(t)
	edge := b.startEdge(afxdpArgs()...)
	edge.waitFor("mode afxdp on edge0 because it was asked for")
	copying, zeroCopy := "copy mode", 0 // of a veth
	if lab.Devices() {
		copying, zeroCopy = "zero-copy", 1
	}
	b.afxdpStatus("one queue in "+copying, func(i control.Interface) bool {
		return i.State == "attached" && i.Mode == "native" && i.AFXDP.Queues == 1 && i.AFXDP.Bound == 1 && i.AFXDP.ZeroCopy == zeroCopy && i.AFXDP.Memory > 0
	})
	if _, stdout, _ := b.run("status"); !strings.Contains(stdout, "1 of 1 queues, "+copying) {
		t.Errorf("status says\n%s", stdout)
	}
	client := b.startClient("-L", "5007:7")
	echo := b.program(5007)
	talk := func(what string, least uint64) {
		t.Helper()
		before := packetsOf(items[control.Counter](b, "stats"), isRedirected)
		for n := range 50 {
			if text := fmt.Sprintf("%s %d", what, n); ask(t, echo, text) != text {
				t.Errorf("no echo of %q", text)
			}
		}
		if n := packetsOf(items[control.Counter](b, "stats"), isRedirected) - before; n < least {
			t.Errorf("%s: %d packets came by AF_XDP, want %d at least", what, n, least)
		}
		b.accounted()
	}
	talk("settled", 50)
	b.checkStats("server", "event", "packets_sent_by_queue")
	session := b.sessions(1)[0]

	for i := range 2 {
		if err := b.client.DelAddr("client0", netip.PrefixFrom(clientAddrs[i], 24)); err != nil {
			t.Fatal(err)
		}
		if err := b.client.AddAddr("client0", netip.PrefixFrom(clientAddrs[1-i], 24)); err != nil {
			t.Fatal(err)
		}
		ask(t, echo, fmt.Sprintf("moved %d", i))
		client.waitFor("moved to " + clientAddrs[1-i].String())
		until(t, "the move is committed", func() bool { return b.sessions(1)[0].Moves == uint64(i)+1 })
		talk(fmt.Sprintf("after move %d", i), 45)
	}
	if s := b.sessions(1)[0]; s.ID != session.ID || s.Moves != 2 {
		t.Errorf("after two moves: %+v", s)
	}

	if lab.Devices() {
		b.carrierGoes()
	} else {
		b.renewWire(edge)
	}
	ask(t, echo, "over the wire as it is now")
	talk("after that", 45)
	if s := b.sessions(1)[0]; s.ID != session.ID {
		t.Errorf("another session after all: %+v", s)
	}

	if code := client.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("connect ended with %d", code)
	}
	if code := edge.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("run ended with %d", code)
	}
	b.nothingLeft()
}

// renewWire takes the wire away and puts one there that has two queues at our end.
func (b *labBench) renewWire(edge *process) {
	b.t.Helper()
	err := b.edge.Do(func() error {
		l, err := netlink.LinkByName("edge0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	edge.waitFor("an interface is degraded")
	if err := b.connectQueues(2); err != nil {
		b.t.Fatal(err)
	}
	b.afxdpStatus("two queues", func(i control.Interface) bool {
		return i.State == "attached" && i.AFXDP.Queues == 2 && i.AFXDP.Bound == 2
	})
}

// carrierGoes sets the edge's device down and up again: its driver gives up its rings
// and makes them anew around the same sockets.
func (b *labBench) carrierGoes() {
	b.t.Helper()
	for _, up := range []bool{false, true} {
		if err := b.edge.SetUp("edge0", up); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := b.edge.WaitUp("edge0"); err != nil {
		b.t.Fatal(err)
	}
}

// connectQueues makes the bench's wire anew, with receive queues at the edge.
func (b *labBench) connectQueues(queues int) error {
	addr := func(a netip.Addr) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a, 24)} }
	return lab.Connect(
		lab.Port{NS: b.edge, Link: "edge0", Addrs: addr(edgeAddr), Queues: queues},
		lab.Port{NS: b.client, Link: "client0", Addrs: addr(clientAddrs[0])})
}

// The MTU of the interface changes under AF_XDP sockets: they follow, whether their
// frames are of the right size still (1400) or have to be larger (1800, and back).
func TestAFXDPFollowsMTU(t *testing.T) {
	b := newLabBench(t)
	_, _, echo := b.startEcho(afxdpArgs()...)
	sentByQueue := func() uint64 {
		return packetsOf(items[control.Counter](b, "stats"), func(c control.Counter) bool { return c.Reason == "packets_sent_by_queue" })
	}
	memory := 0
	for _, mtu := range []int{1400, 1500, 1800, 1500} {
		for n, link := range map[*lab.Namespace]string{b.edge: "edge0", b.client: "client0"} {
			err := n.Do(func() error {
				l, err := netlink.LinkByName(link)
				if err != nil {
					return err
				}
				return netlink.LinkSetMTU(l, mtu)
			})
			if err != nil {
				t.Fatalf("MTU %d: %v", mtu, err)
			}
		}
		larger := mtu > 1770
		b.afxdpStatus(fmt.Sprintf("a socket for MTU %d", mtu), func(i control.Interface) bool {
			if memory == 0 {
				memory = i.AFXDP.Memory
			}
			return i.State == "attached" && i.AFXDP.Bound == 1 && i.AFXDP.MTU == mtu && (i.AFXDP.Memory > memory) == larger
		})
		until(t, fmt.Sprintf("answers leave by the queue with MTU %d", mtu), func() bool {
			before := sentByQueue()
			ask(t, echo, "x")
			return sentByQueue() > before
		})
	}
}

// takeQueue binds an AF_XDP socket of the test's own to the link's one queue.
func (b *labBench) takeQueue(link string) *netio.XSK {
	b.t.Helper()
	index, err := b.edge.Index(link)
	if err != nil {
		b.t.Fatal(err)
	}
	var x *netio.XSK
	err = b.edge.Do(func() (err error) {
		x, err = netio.ListenXSK(netio.XSKConfig{Interface: index, MTU: 1500})
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { x.Close() })
	return x
}

// Another program's AF_XDP socket has the queue: with auto that is said, and the
// queue's packets come by UDP sockets until it is free.
func TestRunWithoutItsQueue(t *testing.T) {
	b := newLabBench(t)
	other := b.takeQueue("edge0")
	if code, _, stderr := b.run(b.edgeArgs("--mode", "afxdp", "--interface", "edge0")...); code != exitFailure ||
		!strings.Contains(stderr, "another AF_XDP socket has it") || !strings.Contains(stderr, "mode xdp") {
		t.Errorf("mode afxdp: exit code %d\n%s", code, stderr)
	}
	b.nothingLeft()

	edge := b.startEdge("--mode", "auto", "--interface", "edge0")
	edge.waitFor("its packets come by UDP sockets")
	b.afxdpStatus("degraded", func(i control.Interface) bool {
		return i.State == "degraded" && i.AFXDP.Bound == 0 && strings.Contains(i.AFXDP.Missing, "another AF_XDP socket has it")
	})
	b.startClient("-L", "5007:7")
	echo := b.program(5007)
	ask(t, echo, "by UDP sockets")
	b.checkStats("socket", "deliver", "main")
	if slices.ContainsFunc(items[control.Counter](b, "stats"), isRedirected) {
		t.Error("packets were redirected to no socket")
	}
	other.Close()
	edge.waitFor("all receive queues have AF_XDP sockets")
	ask(t, echo, "by AF_XDP")
	b.checkStats("xdp", "redirect", "main_xsk")
	b.accounted()
}
