// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// What an operator does with a session at an edge that runs: get, follow a move,
// find the packets that were dropped, close.
func TestOperateSession(t *testing.T) {
	b := newLabBench(t)
	_, client, program := b.startEcho("--mode", "xdp", "--interface", "edge0")
	if err := b.client.DelAddr("client0", netip.PrefixFrom(clientAddrs[0], 24)); err != nil {
		t.Fatal(err)
	}
	if err := b.client.AddAddr("client0", netip.PrefixFrom(clientAddrs[1], 24)); err != nil {
		t.Fatal(err)
	}
	ask(t, program, "after")
	until(t, "the move is committed", func() bool { return b.sessions(1)[0].Moves > 0 })
	session := b.sessions(1)[0]

	got := items[control.Detail](b, "session", "get", session.ID.String()[:8])
	if len(got) != 1 || got[0].ID != session.ID || !slices.Contains(got[0].IDs, got[0].CurrentID) || got[0].Packets["delivered"] == 0 ||
		got[0].Moves != 1 || got[0].MovesStarted == 0 || got[0].MaxDatagram == 0 || got[0].Remote.Addr() != clientAddrs[1] {
		t.Errorf("get: %+v", got)
	}
	// Without an id of ours: XDP drops it and shows a sample.
	raw := b.rawClient()
	forged := make([]byte, 100)
	wire.PutDataHeader(forged, 1, wire.ID{0xab, 0xcd})
	until(t, "the drop of a forged id is told", func() bool {
		if _, err := raw.conn.Write(forged); err != nil {
			t.Fatal(err)
		}
		events := items[control.Event](b, "events", "--kind", "packet", "--session", "abcd")
		return len(events) > 0 && events[0].Name == "drop" && events[0].Reason == "id_forged" && events[0].Stage == "xdp" && events[0].Bytes == 100
	})

	if code, stdout, stderr := b.run("session", "close", session.ID.String()[:8], "--reason", "for a test"); code != exitOK || !strings.Contains(stdout, "alice") {
		t.Errorf("close ended with %d: %s%s", code, stdout, stderr)
	}
	client.waitFor("for a test")
	b.sessions(0)
	var names []string
	for _, e := range items[control.Event](b, "events", "--kind", "session,move") {
		if e.Session == session.ID {
			names = append(names, e.Name)
		}
	}
	if want := []string{"session_opened", "roam_started", "roam_committed", "session_closed"}; !slices.Equal(names, want) {
		t.Errorf("events %v, want %v", names, want)
	}
	if code, stdout, _ := b.run("top", "-n", "1", "--interval", "100ms"); code != exitOK || !strings.Contains(stdout, "mode xdp (native) on edge0") {
		t.Errorf("top ended with %d: %s", code, stdout)
	}
}
