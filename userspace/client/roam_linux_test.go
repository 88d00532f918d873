// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// roamerEnv turns the test binary into the client of TestRoamingBetweenLinks; it
// holds the server's key.
const roamerEnv = "XDP_ROAM_TEST_ROAMER"

func TestMain(m *testing.M) {
	if key, ok := os.LookupEnv(roamerEnv); ok {
		if err := roam(key); err != nil {
			fmt.Fprintln(os.Stderr, "roamer:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// roam is a process in a network namespace that opens a session, sends without
// pause and tells on standard output what it is told, until its standard input
// ends.
func roam(serverKey string) error {
	var key handshake.PublicKey
	if err := key.UnmarshalText([]byte(serverKey)); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s, err := Dial(ctx, Config{
		Servers: []netip.AddrPort{labServer4, labServer6}, ServerKey: key,
		OnEvent: func(e Event) { fmt.Println("event", e.Kind, e.To.Local.Addr()) },
	})
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	go func() {
		for s.SendDatagram([]byte("tick")) == nil {
			time.Sleep(2 * time.Millisecond)
		}
	}()
	p := make([]byte, 100)
	for last := time.Now(); ; last = time.Now() {
		if _, err := s.ReceiveDatagram(ctx, p); err != nil {
			if ctx.Err() != nil {
				return s.Close(wire.CloseDone, "")
			}
			return err
		}
		if gap := time.Since(last); gap > 50*time.Millisecond {
			fmt.Println("gap", gap)
		}
	}
}

var (
	labServer4 = netip.MustParseAddrPort("10.9.0.1:7626")
	labServer6 = netip.MustParseAddrPort("[fd09::1]:7626")
)

// TestRoamingBetweenLinks lets a client process notice by itself, through
// rtnetlink, what becomes of its links: one goes down, all go down, one comes
// back, only IPv6 is left.
func TestRoamingBetweenLinks(t *testing.T) {
	testutil.RequirePrivileged(t)
	here, there := namespace(t, "client"), namespace(t, "server")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	prefix := netip.MustParsePrefix
	for i, link := range []string{"a", "b"} {
		do(lab.Connect(
			lab.Port{NS: here, Link: link, Addrs: []netip.Prefix{prefix(fmt.Sprintf("10.0.%d.2/24", i))}},
			lab.Port{NS: there, Link: link, Addrs: []netip.Prefix{prefix(fmt.Sprintf("10.0.%d.1/24", i))}},
		))
	}
	do(lab.Connect(
		lab.Port{NS: here, Link: "six", Addrs: []netip.Prefix{prefix("fd00::2/64")}, Down: true},
		lab.Port{NS: there, Link: "six", Addrs: []netip.Prefix{prefix("fd00::1/64")}},
	))
	do(there.AddAddr("lo", netip.PrefixFrom(labServer4.Addr(), 32)))
	do(there.AddAddr("lo", netip.PrefixFrom(labServer6.Addr(), 128)))
	route := func(i int, link string) {
		t.Helper()
		do(here.AddRoute(lab.Route{Dst: prefix("10.9.0.0/24"), Via: netip.MustParseAddr(fmt.Sprintf("10.0.%d.1", i)), Link: link, Metric: 10 + i}))
	}
	route(0, "a")
	route(1, "b")

	var r *rig
	do(there.Do(func() error { r = newRig(t, "[::]:7626"); return nil }))
	lines := startRoamer(t, here, r.key.Public())
	expect := func(line string) { t.Helper(); expectLine(t, lines, line) }
	expect("event confirmed 10.0.0.2")

	do(here.SetUp("a", false))
	expect("event moving 10.0.1.2")
	expect("event moved 10.0.1.2")

	do(here.SetUp("b", false))
	expect("event no-route invalid IP")
	do(here.SetUp("b", true))
	route(1, "b") // the kernel dropped it with the link
	expect("event route-back 10.0.1.2")

	do(here.SetUp("a", true))
	route(0, "a") // the better one; it takes the kernel up to a second until a veth carries again
	expect("event moved 10.0.0.2")

	do(here.SetUp("six", true))
	do(here.AddAddr("six", prefix("fd00::2/64"))) // gone with the link as well
	do(here.WaitUp("six"))
	do(here.AddRoute(lab.Route{Dst: prefix("fd09::/64"), Via: netip.MustParseAddr("fd00::1"), Link: "six", Metric: 10}))
	do(here.SetUp("a", false))
	do(here.SetUp("b", false))
	expect("event moved fd00::2")

	r.with(func() {
		if len(r.sessions) != 1 {
			t.Errorf("%d sessions: moves opened new ones", len(r.sessions))
		}
	})
	eventually(t, "the server has it there too", func() bool { return r.path().Remote.Addr() == netip.MustParseAddr("fd00::2") })
}

// expectLine waits for a line of the roamer's.
func expectLine(t *testing.T, lines <-chan string, line string) {
	t.Helper()
	began := time.Now()
	for timeout := time.After(20 * time.Second); ; {
		select {
		case got, ok := <-lines:
			if !ok {
				t.Fatalf("the client is gone, %q was due", line)
			}
			t.Logf("%6v %s", time.Since(began).Round(time.Millisecond), got)
			if got == line {
				return
			}
		case <-timeout:
			t.Fatalf("%q never came", line)
		}
	}
}

// TestRaceBetweenLinks has the network that the system prefers go dead without a
// word, in each direction: the client finds out by the silence, and finds the
// other link although no route of the system's leads there. When the first lives
// again it goes back.
func TestRaceBetweenLinks(t *testing.T) {
	testutil.RequirePrivileged(t)
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for name, dead := range map[string]lab.Route{
		"server to client": {Dst: prefix("10.0.0.2/32")}, // the server's own packets end in a blackhole
		"client to server": {},                           // the client's gateway is not there
	} {
		t.Run(name, func(t *testing.T) {
			here, there := namespace(t, "client"), namespace(t, "server")
			do := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			for i, link := range []string{"a", "b"} {
				do(lab.Connect(
					lab.Port{NS: here, Link: link, Addrs: []netip.Prefix{prefix(fmt.Sprintf("10.0.%d.2/24", i))}},
					lab.Port{NS: there, Link: link, Addrs: []netip.Prefix{prefix(fmt.Sprintf("10.0.%d.1/24", i))}},
				))
				do(here.AddRoute(lab.Route{Dst: prefix("0.0.0.0/0"), Via: addr(fmt.Sprintf("10.0.%d.1", i)), Link: link, Metric: 10 + i}))
			}
			// A link that leads nowhere gets no packet of the session's.
			do(lab.Connect(
				lab.Port{NS: here, Link: "c", Addrs: []netip.Prefix{prefix("10.0.2.2/24")}},
				lab.Port{NS: there, Link: "c"},
			))
			do(there.AddAddr("lo", netip.PrefixFrom(labServer4.Addr(), 32)))

			var r *rig
			do(there.Do(func() error { r = newRig(t, "[::]:7626"); return nil }))
			lines := startRoamer(t, here, r.key.Public())
			expectLine(t, lines, "event confirmed 10.0.0.2")
			gateway := prefix("10.0.0.1/24")
			if dead.Dst.IsValid() {
				do(there.AddRoute(dead))
			} else {
				do(there.DelAddr("a", gateway))
			}
			expectLine(t, lines, "event silent 10.0.0.2")
			expectLine(t, lines, "event moved 10.0.1.2")
			eventually(t, "the server has it there too", func() bool { return r.path().Remote.Addr() == addr("10.0.1.2") })
			if dead.Dst.IsValid() {
				do(there.DelRoute(dead))
			} else {
				do(there.AddAddr("a", gateway))
			}
			do(here.AddAddr("c", prefix("10.0.3.2/24"))) // a change of anything makes it look again
			expectLine(t, lines, "event moved 10.0.0.2")
			r.with(func() {
				if len(r.sessions) != 1 {
					t.Errorf("%d sessions: moves opened new ones", len(r.sessions))
				}
			})
			do(here.Do(func() error {
				for _, w := range (HostNetwork{}).Ways(labServer4) {
					if w.Addr == addr("10.0.2.2") || w.Addr == addr("10.0.3.2") {
						t.Errorf("%v is no way to the server", w)
					}
				}
				return nil
			}))
		})
	}
}

func namespace(t *testing.T, name string) *lab.Namespace {
	t.Helper()
	ns, err := lab.NewNamespace(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func startRoamer(t *testing.T, ns *lab.Namespace, key handshake.PublicKey) <-chan string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roamerEnv+"="+key.String())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(stdout); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		stdin.Close()
		for range lines { // until the process closes its end
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the client process: %v", err)
		}
	})
	return lines
}
