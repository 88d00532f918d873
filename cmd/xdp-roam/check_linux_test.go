// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// sessions lists the sessions by service and waits until there are so many.
func (b *labBench) sessions(n int) []control.Session {
	b.t.Helper()
	var sessions []control.Session
	until(b.t, fmt.Sprintf("%d sessions", n), func() bool {
		sessions = items[control.Session](b, "session", "list")
		return len(sessions) == n
	})
	slices.SortFunc(sessions, func(x, y control.Session) int { return int(x.Service) - int(y.Service) })
	return sessions
}

func (b *labBench) checkStatus() {
	b.t.Helper()
	status := items[control.Status](b, "status")
	if len(status) != 1 {
		b.t.Fatalf("status: %+v", status)
	}
	s := status[0]
	if s.Mode != "xdp" || len(s.Interfaces) != 1 || s.Interfaces[0].Name != "edge0" || s.Interfaces[0].Mode != "native" ||
		s.Interfaces[0].State != "attached" || s.Sessions != 2 || s.TableSlots != 4096 || s.TableUsed < 2 || len(s.Services) != 2 ||
		s.PublicKey != b.serverKey.Public().String() {
		b.t.Errorf("status: %+v", s)
	}
}

// checkMaps compares the session table in the kernel with the sessions.
func (b *labBench) checkMaps(sessions []control.Session) {
	b.t.Helper()
	slots := make(map[string]slotItem)
	for _, s := range items[slotItem](b, "map", "dump", "slots") {
		slots[s.ID] = s
	}
	for _, s := range sessions {
		if slot, ok := slots[s.CurrentID.String()]; !ok || slot.Kind != "roam" || slot.Remote != s.Remote.String() {
			b.t.Errorf("session %s at %s: its id %s is in the table as %+v", s.ID, s.Remote, s.CurrentID, slot)
		}
	}
	listeners := items[listenerItem](b, "map", "dump", "listeners")
	want := netip.AddrPortFrom(edgeAddr, 7626).String()
	if !slices.ContainsFunc(listeners, func(l listenerItem) bool { return l.Address == want && l.Stages == "xdp,socket" }) {
		b.t.Errorf("listeners: %+v, want %s among them", listeners, want)
	}
	sockets := items[socketItem](b, "map", "dump", "sockets")
	for _, lane := range []string{"main", "candidate", "handshake", "sink"} {
		if !slices.ContainsFunc(sockets, func(s socketItem) bool { return s.Lane == lane && s.Owner == 0 && s.Cookie != "" }) {
			b.t.Errorf("sockets: %+v, want one for lane %s", sockets, lane)
		}
	}
	config := items[configItem](b, "map", "dump", "config")
	if len(config) != 1 || config[0].Slots != 4096 || config[0].CookiePolicy != "auto" || len(config[0].CookieEpochs) < 2 || config[0].MAC1Keys != 1 {
		b.t.Errorf("config: %+v", config)
	}
	if list := items[mapItem](b, "map", "list"); len(list) < 5 || list[0].Name != "slots" || list[0].MaxEntries != 4096 {
		b.t.Errorf("map list: %+v", list)
	}
}

// checkStats wants one counter above zero, in `stats` and, if the data plane
// counted it, in the dump of its map.
func (b *labBench) checkStats(stage, verdict, reason string) {
	b.t.Helper()
	has := func(counters []control.Counter) bool {
		return slices.ContainsFunc(counters, func(c control.Counter) bool {
			return c.Stage == stage && c.Verdict == verdict && c.Reason == reason && c.Value > 0
		})
	}
	if counters := items[control.Counter](b, "stats"); !has(counters) {
		b.t.Errorf("stats has no %s %s %s: %+v", stage, verdict, reason, counters)
	}
	if stage == "server" {
		return
	}
	if counters := items[control.Counter](b, "map", "dump", "cpus"); !has(counters) {
		b.t.Errorf("map dump cpus has no %s %s %s: %+v", stage, verdict, reason, counters)
	}
}
