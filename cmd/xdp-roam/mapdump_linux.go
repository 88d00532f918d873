// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// dumps are the maps that `map dump` decodes, by the names that they are pinned under.
var dumps = []struct {
	name string
	dump func(*env, *maps.Set) error
}{
	{"slots", dumpSlots},
	{"config", dumpConfig},
	{"listeners", dumpListeners},
	{"cpus", dumpCounters},
	{"sockets", dumpSockets},
}

// slotItem is one live slot of the session table: one id of a session.
type slotItem struct {
	Slot       uint32 `json:"slot"`
	ID         string `json:"id"`
	Kind       string `json:"kind"`
	Owner      uint16 `json:"owner"`
	Flags      string `json:"flags,omitempty"`
	Generation uint32 `json:"generation"`
	// Remote is the validated address; empty until one is.
	Remote string `json:"remote,omitempty"`
}

func readSlot(s *maps.SlotInfo) slotItem {
	item := slotItem{
		Slot: s.Slot, ID: hex.EncodeToString(s.ID[:]), Kind: s.Kind.String(), Owner: s.Owner,
		Flags: s.Flags.String(), Generation: s.Generation,
	}
	if addr := s.Addr(); addr.IsValid() && addr.Port() != 0 {
		item.Remote = addr.String()
	}
	return item
}

func dumpSlots(e *env, set *maps.Set) error { return e.showSlots(set, &control.SessionQuery{}) }

// showSlots prints the live slots, by their ids, owners and number, as far as q
// asks for those.
func (e *env) showSlots(set *maps.Set, q *control.SessionQuery) error {
	p := newPrinter(e, "Slot", []column[slotItem]{
		{name: "slot", value: func(s slotItem) string { return strconv.FormatUint(uint64(s.Slot), 10) }},
		{name: "id", value: func(s slotItem) string { return e.shortID(s.ID) }},
		{name: "kind", value: func(s slotItem) string { return s.Kind }},
		{name: "remote", value: func(s slotItem) string { return s.Remote }},
		{name: "owner", value: func(s slotItem) string { return strconv.Itoa(int(s.Owner)) }},
		{name: "flags", value: func(s slotItem) string { return s.Flags }},
		{name: "generation", value: func(s slotItem) string { return fmt.Sprint(s.Generation) }, wide: true},
	})
	begins := func(id string) bool {
		return len(q.IDs) == 0 || slices.ContainsFunc(q.IDs, func(begin string) bool { return strings.HasPrefix(id, begin) })
	}
	shown := 0
	var err error
	set.Sessions.Scan(func(live []maps.SlotInfo) bool {
		for i := range live {
			if len(q.Workers) > 0 && !slices.Contains(q.Workers, int(live[i].Owner)) {
				continue
			}
			item := readSlot(&live[i])
			if !begins(item.ID) {
				continue
			}
			err = p.print(item)
			if shown++; err != nil || shown == q.Limit {
				return false
			}
		}
		return true
	})
	return errors.Join(err, p.close())
}

// configItem is the data plane's configuration, without any key.
type configItem struct {
	Schema       uint32               `json:"schema"`
	Slots        uint32               `json:"slots"`
	UnixBase     uint32               `json:"unix_base_seconds"`
	ServerID     uint16               `json:"server_id"`
	CookiePolicy string               `json:"cookie_policy"`
	IDKeys       []int                `json:"id_key_generations"`
	MAC1Keys     int                  `json:"mac1_keys"`
	CookieEpochs []time.Time          `json:"cookie_epochs"`
	Limits       map[string]limitItem `json:"limits"`
}

type limitItem struct {
	PerSecond uint32 `json:"per_second"`
	Burst     uint32 `json:"burst"`
}

func dumpConfig(e *env, set *maps.Set) error {
	c := set.Config.Read()
	item := configItem{
		Schema: c.Schema, Slots: c.Slots, UnixBase: c.UnixBase, ServerID: c.ServerID, CookiePolicy: c.CookiePolicy.String(),
		IDKeys: append([]int{}, c.IDKeys...), MAC1Keys: c.MAC1Keys, CookieEpochs: []time.Time{},
		Limits: map[string]limitItem{},
	}
	for _, epoch := range c.CookieEpochs {
		item.CookieEpochs = append(item.CookieEpochs, time.Unix(int64(epoch)*60, 0).UTC())
	}
	lines := []line{
		{"schema", fmt.Sprint(item.Schema)},
		{"slots", fmt.Sprint(item.Slots)},
		{"unix base", fmt.Sprintf("%d s", item.UnixBase)},
		{"server id", fmt.Sprint(item.ServerID)},
		{"cookie policy", item.CookiePolicy},
		{"id key generations", strings.Trim(fmt.Sprint(item.IDKeys), "[]")},
		{"mac1 keys", fmt.Sprint(item.MAC1Keys)},
	}
	for _, epoch := range item.CookieEpochs {
		lines = append(lines, line{"cookie key for", epoch.Format("15:04") + " UTC"})
	}
	for _, limit := range []struct {
		name string
		rate maps.Rate
	}{
		{"candidate", c.Limits.Candidate}, {"slot_candidate", c.Limits.SlotCandidate}, {"handshake", c.Limits.Handshake},
		{"uncookied", c.Limits.Uncookied}, {"reset", c.Limits.Reset}, {"version", c.Limits.Version},
		{"slow", c.Limits.Slow}, {"event", c.Limits.Event},
	} {
		item.Limits[limit.name] = limitItem(limit.rate)
		lines = append(lines, line{"limit " + limit.name, fmt.Sprintf("%d/s, burst %d", limit.rate.PerSecond, limit.rate.Burst)})
	}
	if e.format.isJSON() {
		return writeJSON(e.stdout, e.format, "DataPlaneConfig", []configItem{item})
	}
	return showLines(e, lines)
}

type listenerItem struct {
	Address string `json:"address"`
	Index   uint16 `json:"index"`
	// Stages says where a packet to this address is judged.
	Stages string `json:"stages"`
}

func dumpListeners(e *env, set *maps.Set) error {
	var items []listenerItem
	for _, l := range set.Listeners.List() {
		item := listenerItem{Address: l.Addr.String(), Index: l.Index, Stages: "xdp,socket"}
		if l.Addr.Addr().IsUnspecified() && !l.Everywhere {
			item.Stages = "socket"
		}
		items = append(items, item)
	}
	return show(e, "Listener", items, []column[listenerItem]{
		{name: "address", value: func(l listenerItem) string { return l.Address }},
		{name: "index", value: func(l listenerItem) string { return fmt.Sprint(l.Index) }},
		{name: "stages", value: func(l listenerItem) string { return l.Stages }},
	})
}

type socketItem struct {
	Listener uint16 `json:"listener"`
	Owner    uint16 `json:"owner"`
	Lane     string `json:"lane"`
	Index    uint32 `json:"index"`
	// Cookie is the kernel's name for the socket, as `ss -e` shows it (sk).
	Cookie string `json:"cookie"`
}

func dumpSockets(e *env, set *maps.Set) error {
	list, err := set.Sockets.List()
	if err != nil {
		return err
	}
	var items []socketItem
	for _, l := range list {
		items = append(items, socketItem{
			Listener: l.Listener, Owner: l.Owner, Lane: l.Lane.String(), Index: l.Index, Cookie: strconv.FormatUint(l.Cookie, 16),
		})
	}
	return show(e, "Socket", items, []column[socketItem]{
		{name: "listener", value: func(l socketItem) string { return fmt.Sprint(l.Listener) }},
		{name: "owner", value: func(l socketItem) string { return fmt.Sprint(l.Owner) }},
		{name: "lane", value: func(l socketItem) string { return l.Lane }},
		{name: "index", value: func(l socketItem) string { return fmt.Sprint(l.Index) }},
		{name: "cookie", value: func(l socketItem) string { return l.Cookie }},
	})
}

func dumpCounters(e *env, set *maps.Set) error {
	return showCounters(e, dataPlaneCounters(set.Counters))
}

// dataPlaneCounters are the counters of the two programs that are not zero.
func dataPlaneCounters(c *maps.Counters) []control.Counter {
	snapshot := c.Read()
	var counters []control.Counter
	for _, count := range snapshot.Counts() {
		counters = append(counters, control.Counter{
			Stage: count.Stage.String(), Verdict: count.Verdict.String(), Reason: count.Reason.String(), Value: count.Packets,
		})
	}
	if snapshot.EventsLost > 0 {
		counters = append(counters, control.Counter{Stage: "events", Verdict: "drop", Reason: "ring_full", Value: snapshot.EventsLost})
	}
	if snapshot.TracesLost > 0 {
		counters = append(counters, control.Counter{Stage: "events", Verdict: "drop", Reason: "trace_limit", Value: snapshot.TracesLost})
	}
	return counters
}

func showCounters(e *env, counters []control.Counter) error {
	return show(e, control.KindCounter, counters, []column[control.Counter]{
		{name: "stage", value: func(c control.Counter) string { return c.Stage }},
		{name: "verdict", value: func(c control.Counter) string { return c.Verdict }},
		{name: "reason", value: func(c control.Counter) string { return c.Reason }},
		{name: "count", value: func(c control.Counter) string { return fmt.Sprint(c.Value) }},
	})
}
