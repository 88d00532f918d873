// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"runtime"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// collector makes metrics of samples.
type collector struct{ read func() Sample }

// NewCollector returns a collector that calls read for each scrape, several at once
// perhaps.
func NewCollector(read func() Sample) prometheus.Collector { return collector{read} }

// descs are all that desc has made.
var descs []*prometheus.Desc

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("xdp_roam_"+name, help, labels, nil)
	descs = append(descs, d)
	return d
}

// What there is, in the order of Collect.
var (
	buildInfo = desc("build_info", "1, with the version of xdp-roam and of Go.", "version", "goversion")
	edgeInfo  = desc("edge_info", "1, with the name of the edge (--instance) and the mode in which it steers.", "edge", "mode")
	draining  = desc("draining", "1 while the edge takes no new sessions and waits for the last one to end.")

	packets = desc("packets_total",
		"Packets by what became of them, once at each stage that they met: xdp and socket are the programs of the data plane, server is the daemon.",
		"stage", "verdict", "reason")
	eventsLost       = desc("data_plane_events_lost_total", "Events about packets that the daemon was too slow to read; their packets are counted all the same.")
	datagramsDropped = desc("datagrams_dropped_total", "Datagrams that were lost behind their packet: the session's reader was too slow, or the client does not take their size.", "reason")
	sendRefused      = desc("packets_send_refused_total", "Packets that the kernel did not send, for want of a route for instance.")

	interfaceDegraded = desc("interface_degraded", "1 while an interface is not in the mode that it should be in.", "interface", "mode")
	afxdpQueues       = desc("afxdp_queues", "Receive queues of an interface that should have an AF_XDP socket.", "interface")
	afxdpSockets      = desc("afxdp_sockets", "Receive queues of an interface that have an AF_XDP socket.", "interface")
	afxdpDropped      = desc("afxdp_dropped_packets_total", "Packets that the kernel dropped at AF_XDP sockets: their reader was too slow, or the frame was not one.", "reason")
	afxdpFillEmpty    = desc("afxdp_fill_ring_empty_total", "How often the kernel found no free frame when it looked for one at an AF_XDP socket.")

	sessions        = desc("sessions", "Sessions that are open.")
	halfOpen        = desc("half_open_sessions", "Sessions whose client has not spoken since the handshake.")
	sessionsOpened  = desc("sessions_opened_total", "Sessions whose client has confirmed them.")
	sessionsClosed  = desc("sessions_closed_total", "Confirmed sessions that are over.")
	halfOpenExpired = desc("half_open_expired_total", "Sessions whose client never spoke after the handshake.")
	acceptQueueFull = desc("accept_queue_full_total", "Sessions that were closed because the daemon did not take them in time.")

	tableIDs      = desc("table_ids", "Session ids in the table; a session has three as a rule.")
	tableCapacity = desc("table_capacity", "Session ids that the table takes: three quarters of its slots.")
	tableSlots    = desc("table_slots", "Slots of the session table.")
	tableFull     = desc("table_full_total", "Sessions that were refused because the table was full.")
	orphansFreed  = desc("orphans_freed_total", "Ids in the table that no session owned, such as those of a daemon that was killed.")

	roamsStarted     = desc("roams_started_total", "Moves that began: an authentic packet came from a new address.")
	roamsCommitted   = desc("roams_committed_total", "Moves that were validated: the session is at the new address.")
	roamsRefused     = desc("roams_refused_total", "Moves that were not: the new address did not answer, or the old one did.")
	roamsReverted    = desc("roams_reverted_total", "Moves that the owner of the old address took back.")
	roamSwitch       = desc("roam_switch_seconds", "How long committed moves took at the server, from the first packet of the new address to its validation.")
	forwardingAlarms = desc("forwarding_alarms_total", "Alarms about authentic copies that come from elsewhere: someone forwards or replays packets.")
	idsPoliced       = desc("ids_policed_total", "Ids that were put under the candidates' limit, because of packets from the session's own address that do not open.")
	takeovers        = desc("takeovers_total", "Sessions that went to the worker that opens their packets.")

	handshakes  = desc("handshakes_total", "Handshakes that were answered, by outcome.", "outcome")
	previousKey = desc("handshakes_previous_key_total", "Handshakes by the server's previous key; when it stands still, the key can go.")

	serviceSessions        = desc("service_sessions", "Sessions of a service.", "service")
	serviceSessionsServed  = desc("service_sessions_served_total", "Sessions that a service has served.", "service")
	serviceSessionsRefused = desc("service_sessions_refused_total", "Sessions beyond the limits of a service.", "service")
	serviceStreams         = desc("service_streams", "Streams of a service: connections to its backend.", "service")
	serviceStreamsServed   = desc("service_streams_served_total", "Streams that a service has served.", "service")
	serviceStreamsRefused  = desc("service_streams_refused_total", "Streams beyond the limits of a service.", "service")
	serviceFailures        = desc("service_backend_failures_total", "Sessions or streams of a service that its backend failed.", "service")

	authorizedClients = desc("authorized_clients", "Clients in the list that is in force.")
	authorizedStale   = desc("authorized_keys_stale", "1 while the file of authorized keys is wrong and an older list is in force.")
	logLinesDropped   = desc("log_lines_dropped_total", "Log lines and events that were not written, because there were too many.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What could be counted and was not yet is
// 0, so that the first one is a growth that can be seen.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s, m := c.read(), sink(ch)
	m.gauge(buildInfo, 1, s.Version, runtime.Version())
	m.gauge(edgeInfo, 1, s.Edge, s.Mode)
	m.flag(draining, s.Draining)
	m.packets(&s)
	m.interfaces(&s)
	m.sessions(&s.Server)
	m.roams(&s.Server)
	m.handshakes(&s.Server)
	for _, one := range s.Services {
		m.service(one)
	}
	if s.Clients != nil {
		m.gauge(authorizedClients, float64(s.Clients.Number))
		m.flag(authorizedStale, s.Clients.Stale)
	}
	m.count(logLinesDropped, s.Server.LogDropped)
}

// sink takes metrics.
type sink chan<- prometheus.Metric

func (m sink) gauge(d *prometheus.Desc, value float64, labels ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (m sink) flag(d *prometheus.Desc, set bool, labels ...string) {
	value := 0.0
	if set {
		value = 1
	}
	m.gauge(d, value, labels...)
}

func (m sink) count(d *prometheus.Desc, value uint64, labels ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func (m sink) packets(s *Sample) {
	if s.DataPlane != nil {
		for _, stage := range []maps.Stage{maps.StageXDP, maps.StageSocket} {
			for number, n := range s.DataPlane.Packets[stage] {
				reason := maps.Reason(number)
				if reason.Known() || n > 0 { // a newer data plane may have more
					m.count(packets, n, stage.String(), reason.Verdict(stage).String(), reason.String())
				}
			}
		}
		m.count(eventsLost, s.DataPlane.EventsLost)
	}
	for reason := server.Reason(1); int(reason) < server.NumReasons; reason++ {
		m.count(packets, s.Server.Packets[reason], "server", reason.Verdict().String(), reason.String())
	}
	m.count(datagramsDropped, s.Server.DatagramsDropped, "queue_full")
	m.count(datagramsDropped, s.Server.DatagramsTooLarge, "too_large")
	m.count(sendRefused, s.Server.SendRefused)
}

func (m sink) interfaces(s *Sample) {
	for _, i := range s.Interfaces {
		m.flag(interfaceDegraded, i.Degraded, i.Name, i.Mode)
		m.gauge(afxdpQueues, float64(i.Queues), i.Name)
		m.gauge(afxdpSockets, float64(i.Sockets), i.Name)
	}
	m.count(afxdpDropped, s.Server.QueueDrops.NoFrame, "no_frame")
	m.count(afxdpDropped, s.Server.QueueDrops.RingFull, "ring_full")
	m.count(afxdpDropped, s.Server.QueueDrops.Malformed, "malformed")
	m.count(afxdpFillEmpty, s.Server.QueueDrops.FillEmpty)
}

func (m sink) sessions(s *server.Stats) {
	m.gauge(sessions, float64(s.Sessions))
	m.gauge(halfOpen, float64(s.HalfOpen))
	m.count(sessionsOpened, s.Opened)
	m.count(sessionsClosed, s.Closed)
	m.count(halfOpenExpired, s.Expired)
	m.count(acceptQueueFull, s.AcceptQueueFull)
	m.gauge(tableIDs, float64(s.TableUsed))
	m.gauge(tableCapacity, float64(s.TableLimit))
	m.gauge(tableSlots, float64(s.TableSlots))
	m.count(tableFull, s.TableFull)
	m.count(orphansFreed, s.OrphansFreed)
}

func (m sink) roams(s *server.Stats) {
	m.count(roamsStarted, s.RoamsStarted)
	m.count(roamsCommitted, s.RoamsCommitted)
	m.count(roamsRefused, s.RoamsRefused)
	m.count(roamsReverted, s.RoamsReverted)
	buckets, below := make(map[float64]uint64), uint64(0)
	for i, bound := range server.SwitchBounds {
		below += s.Switches.Buckets[i]
		buckets[bound.Seconds()] = below
	}
	m <- prometheus.MustNewConstHistogram(roamSwitch, s.Switches.Count(), s.Switches.Sum.Seconds(), buckets)
	m.count(forwardingAlarms, s.ForwardingAlarms)
	m.count(idsPoliced, s.Policed)
	m.count(takeovers, s.Takeovers)
}

func (m sink) handshakes(s *server.Stats) {
	for status, n := range s.Refused {
		status := wire.Status(status)
		if status == wire.StatusAccepted {
			n = s.Packets[server.RespAccepted]
		}
		m.count(handshakes, n, strings.ReplaceAll(status.String(), " ", "_"))
	}
	m.count(previousKey, s.PreviousKey)
}

func (m sink) service(s Service) {
	port := strconv.Itoa(int(s.Port))
	m.gauge(serviceSessions, float64(s.Sessions), port)
	m.count(serviceSessionsServed, s.SessionsServed, port)
	m.count(serviceSessionsRefused, s.SessionsRefused, port)
	m.gauge(serviceStreams, float64(s.Streams), port)
	m.count(serviceStreamsServed, s.StreamsServed, port)
	m.count(serviceStreamsRefused, s.StreamsRefused, port)
	m.count(serviceFailures, s.Failures, port)
}
