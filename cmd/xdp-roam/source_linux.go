// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// source is an edge as the control socket shows it.
type source edge

// Status implements control.Source.
func (d *source) Status() control.Status {
	s := control.Status{
		Instance: d.conf.Instance, Version: release(), PID: os.Getpid(), Started: d.started,
		PublicKey: d.key.Public().String(), Cookie: d.conf.Cookie,
		AuthorizedKeys: authorityItem(d.authority),
		Interfaces:     []control.Interface{}, Services: []control.Service{},
	}
	for _, key := range d.previous {
		s.PreviousPublicKey = key.Public().String()
	}
	d.drain.Lock()
	s.Draining, s.DrainDeadline = d.drain.begun, d.drain.deadline
	d.drain.Unlock()
	s.Mode, s.ModeReason = string(config.ModeNone), "it was asked for: packets are not filtered"
	if d.instance != nil {
		attachments := d.instance.Attachments()
		s.Mode, s.ModeReason = overall(attachments)
		for _, a := range attachments {
			s.Interfaces = append(s.Interfaces, interfaceItem(a))
		}
		d.addQueues(s.Interfaces)
	}
	for _, one := range d.conf.Services {
		s.Services = append(s.Services, control.Service{Port: one.Port, Backend: one.Backend})
	}
	if d.server != nil {
		s.Listen = d.server.Addr().String()
		stats := d.server.Stats()
		s.Sessions, s.HalfOpen = stats.Sessions, stats.HalfOpen
		s.TableUsed, s.TableSlots = stats.TableUsed, stats.TableSlots
	}
	return s
}

// addQueues enters what AF_XDP sockets the interfaces have. One that lacks some is degraded.
func (d *source) addQueues(items []control.Interface) {
	if d.queues == nil {
		return
	}
	for _, st := range d.queues.States() {
		for n := range items {
			item := &items[n]
			if item.Name != st.Name {
				continue
			}
			item.AFXDP = queueItem(st)
			if st.Missing != nil {
				item.State = "degraded"
				item.Reason = fmt.Sprintf("packets of %d queues come by UDP sockets: %v", min(st.Queues, maps.XSKQueues)-st.Bound, st.Missing)
			}
		}
	}
}

func interfaceItem(a loader.Attachment) control.Interface {
	item := control.Interface{Name: a.Interface, Driver: a.Driver, State: "attached", Reason: a.Reason}
	switch {
	case a.Degraded != "":
		item.State, item.Reason = "degraded", a.Degraded
	case a.Mode == loader.ModeSocket:
		item.State = "unattached"
	case a.Mode == loader.ModeXDP, a.Mode == loader.ModeAFXDP:
		item.Mode = "native"
	default:
		item.Mode = string(a.Mode)
	}
	return item
}

// overall is the mode that holds on every interface, or "mixed", and why.
func overall(attachments []loader.Attachment) (mode, reason string) {
	if len(attachments) == 0 {
		return string(loader.ModeSocket), "no interface is configured"
	}
	mode, reason = string(attachments[0].Mode), attachments[0].Reason
	var reasons []string
	for _, a := range attachments {
		if mode != string(a.Mode) {
			mode = "mixed"
		}
		if reason != a.Reason {
			reason = ""
		}
		reasons = append(reasons, a.Interface+": "+a.Reason)
	}
	switch {
	case reason == "":
		return mode, strings.Join(reasons, "; ")
	case strings.HasPrefix(reason, "asked for"):
		return mode, "it was " + reason
	}
	return mode, reason
}

// Counters implements control.Source: those of the data plane, then the
// server's, without zeros.
func (d *source) Counters() []control.Counter {
	var counters []control.Counter
	if d.instance != nil {
		counters = dataPlaneCounters(d.instance.Maps.Counters)
	}
	return append(counters, serverCounters(d.server.Stats())...)
}

// serverCounters lists what became of packets, then what happened to sessions
// (verdict "event").
func serverCounters(s server.Stats) []control.Counter {
	var counters []control.Counter
	add := func(verdict, reason string, value uint64) {
		if value != 0 {
			counters = append(counters, control.Counter{Stage: "server", Verdict: verdict, Reason: reason, Value: value})
		}
	}
	for i, n := range s.Packets {
		reason := server.Reason(i)
		add(reason.Verdict().String(), reason.String(), n)
	}
	add("drop", "datagram_queue_full", s.DatagramsDropped)
	add("drop", "datagram_too_large", s.DatagramsTooLarge)
	add("drop", "send_refused", s.SendRefused)
	for lane, n := range s.SocketDrops {
		add("drop", "socket_full_"+maps.Lane(lane).String(), n)
	}
	add("drop", "queue_no_frame", s.QueueDrops.NoFrame)
	add("drop", "queue_ring_full", s.QueueDrops.RingFull)
	add("drop", "queue_malformed", s.QueueDrops.Malformed)
	add("event", "queue_fill_ring_empty", s.QueueDrops.FillEmpty)
	add("event", "packets_sent_by_queue", s.SentDirect)
	for status, n := range s.Refused {
		add("event", "refused_"+strings.ReplaceAll(wire.Status(status).String(), " ", "_"), n)
	}
	add("event", "half_open_expired", s.Expired)
	add("event", "sessions_opened", s.Opened)
	add("event", "sessions_closed", s.Closed)
	add("event", "accept_queue_full", s.AcceptQueueFull)
	add("event", "table_full", s.TableFull)
	add("event", "roams_started", s.RoamsStarted)
	add("event", "roams_committed", s.RoamsCommitted)
	add("event", "roams_refused", s.RoamsRefused)
	add("event", "roams_reverted", s.RoamsReverted)
	add("event", "forwarding_alarms", s.ForwardingAlarms)
	add("event", "handshakes_previous_key", s.PreviousKey)
	add("event", "takeovers", s.Takeovers)
	add("event", "ids_policed", s.Policed)
	add("event", "orphans_freed", s.OrphansFreed)
	add("event", "log_lines_dropped", s.LogDropped)
	return counters
}
