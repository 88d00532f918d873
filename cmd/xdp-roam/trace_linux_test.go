// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/maps"
)

// A session is traced while it moves: the capture shows both paths at every stage,
// the candidate lane and what the server sends, with the reasons, in what Wireshark
// reads. When the trace is interrupted its file is whole and no flag is left.
func TestTraceOfAMove(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		testutil.SkipOrFail(t, "tshark is not installed: apt-get install tshark")
	}
	b := newLabBench(t)
	edge, client, program := b.startEcho("--mode", "xdp", "--interface", "edge0")
	session := b.sessions(1)[0]
	traced := func() (n int) {
		for _, slot := range items[slotItem](b, "map", "dump", "slots") {
			if slot.Flags == maps.FlagTrace.String() {
				n++
			}
		}
		return n
	}
	file := b.path("roam.pcapng")
	trace := b.start(b.edge, "trace", session.ID.String()[:8], "--pcapng", file)
	until(t, "the session's ids have the flag", func() bool { return traced() > 0 })
	ask(t, program, "at home")
	if err := b.client.DelAddr("client0", netip.PrefixFrom(clientAddrs[0], 24)); err != nil {
		t.Fatal(err)
	}
	if err := b.client.AddAddr("client0", netip.PrefixFrom(clientAddrs[1], 24)); err != nil {
		t.Fatal(err)
	}
	ask(t, program, "away")
	until(t, "the move is committed", func() bool { return b.sessions(1)[0].Moves == 1 })
	ask(t, program, "on the main lane again")
	home, away := clientAddrs[0].String(), clientAddrs[1].String()
	wanted := []string{
		"xdp edge0 xdp: pass main " + home, "socket socket: deliver main " + home, "server server: deliver delivered " + home,
		"xdp edge0 xdp: pass candidate " + away, "socket socket: deliver candidate " + away, "server server: send elsewhere " + away,
		"xdp edge0 xdp: pass main " + away, "server server: send main " + away,
	}
	has := func() bool {
		shown, err := captured(tshark, file, session.ID.String())
		return err == nil && !slices.ContainsFunc(wanted, func(w string) bool { return !shown[w] })
	}
	until(t, "the capture has all", has)
	if code := trace.stop(syscall.SIGINT); code != exitOK {
		t.Fatalf("trace ended with %d: %s", code, trace.said())
	}
	until(t, "no id has the flag any more", func() bool { return traced() == 0 })
	if shown, err := captured(tshark, file, session.ID.String()); err != nil || !has() {
		t.Errorf("the file that is left: %v: %v", shown, err)
	}
	client.stop(syscall.SIGTERM)
	edge.stop(syscall.SIGTERM)
	b.nothingLeft()
}

// captured returns what a capture of one session says: the interface, the comment and
// the client's address of each packet. A file that is cut short is an error.
func captured(tshark, file, session string) (map[string]bool, error) {
	out, err := exec.Command(tshark, "-X", "lua_script:../../docs/wireshark/roam.lua", "-r", file, "-T", "fields",
		"-e", "frame.interface_name", "-e", "ip.addr", "-e", "roam.type", "-e", "frame.comment", "-e", "_ws.malformed").Output()
	if err != nil {
		return nil, err
	}
	shown := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 {
			return nil, fmt.Errorf("tshark shows %q", line)
		}
		comment, ours := strings.CutSuffix(f[3], ", session "+session)
		if f[2] != "0x0c" || f[4] != "" || !ours {
			return nil, fmt.Errorf("tshark shows %q", line)
		}
		for _, end := range strings.Split(f[1], ",") {
			shown[f[0]+" "+comment+" "+end] = true
		}
	}
	return shown, nil
}
