// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/service"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// scrape returns the lines that Prometheus would get.
func scrape(t *testing.T, s Sample) map[string]bool {
	t.Helper()
	recorder := httptest.NewRecorder()
	NewHandler(func() Sample { return s }, slog.New(slog.DiscardHandler)).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	text, _ := io.ReadAll(recorder.Result().Body)
	if recorder.Code != 200 {
		t.Fatalf("status %d: %s", recorder.Code, text)
	}
	lines := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		lines[strings.TrimSpace(line)] = true
	}
	return lines
}

func TestCollector(t *testing.T) {
	s := Sample{
		Edge: "default", Version: "v1", Mode: "xdp", DataPlane: new(maps.Snapshot),
		Interfaces: []Interface{{Name: "eth0", Mode: "native", Degraded: true, Queues: 4, Sockets: 3}},
		Services:   []Service{{22, service.Use{Sessions: 2, StreamsServed: 7, Failures: 1}}},
		Clients:    &Clients{Number: 3, Stale: true},
	}
	s.DataPlane.Packets[maps.StageXDP][maps.ReasonIDForged] = 12
	s.DataPlane.Packets[maps.StageSocket][maps.ReasonMain] = 34
	s.DataPlane.EventsLost = 5
	s.Server.Packets[server.AuthFailed] = 2
	s.Server.Packets[server.RespAccepted] = 6
	s.Server.Refused[wire.StatusFull] = 8
	s.Server.RoamsCommitted = 3
	s.Server.Switches = server.Histogram{Sum: 3 * time.Second / 2}
	s.Server.Switches.Buckets[0], s.Server.Switches.Buckets[1], s.Server.Switches.Buckets[len(server.SwitchBounds)] = 1, 1, 1
	s.Server.QueueDrops = netio.Drops{NoFrame: 9}
	s.Server.TableUsed, s.Server.TableLimit, s.Server.TableSlots = 30, 96, 128
	got := scrape(t, s)
	for _, want := range []string{
		`xdp_roam_edge_info{edge="default",mode="xdp"} 1`,
		`xdp_roam_packets_total{reason="id_forged",stage="xdp",verdict="drop"} 12`,
		`xdp_roam_packets_total{reason="main",stage="socket",verdict="deliver"} 34`,
		`xdp_roam_packets_total{reason="mac1",stage="socket",verdict="drop"} 0`, // nothing yet
		`xdp_roam_packets_total{reason="auth_failed",stage="server",verdict="drop"} 2`,
		`xdp_roam_data_plane_events_lost_total 5`,
		`xdp_roam_handshakes_total{outcome="accepted"} 6`,
		`xdp_roam_handshakes_total{outcome="full"} 8`,
		`xdp_roam_handshakes_total{outcome="no_such_service"} 0`,
		`xdp_roam_roams_committed_total 3`,
		`xdp_roam_roam_switch_seconds_bucket{le="0.0005"} 1`,
		`xdp_roam_roam_switch_seconds_bucket{le="0.001"} 2`,
		`xdp_roam_roam_switch_seconds_bucket{le="5"} 2`,
		`xdp_roam_roam_switch_seconds_bucket{le="+Inf"} 3`,
		`xdp_roam_roam_switch_seconds_sum 1.5`,
		`xdp_roam_afxdp_dropped_packets_total{reason="no_frame"} 9`,
		`xdp_roam_interface_degraded{interface="eth0",mode="native"} 1`,
		`xdp_roam_afxdp_sockets{interface="eth0"} 3`,
		`xdp_roam_table_ids 30`, `xdp_roam_table_capacity 96`, `xdp_roam_table_slots 128`,
		`xdp_roam_service_sessions{service="22"} 2`,
		`xdp_roam_service_streams_served_total{service="22"} 7`,
		`xdp_roam_service_backend_failures_total{service="22"} 1`,
		`xdp_roam_authorized_clients 3`, `xdp_roam_authorized_keys_stale 1`,
	} {
		if !got[want] {
			t.Errorf("no line %s", want)
		}
	}
}

// Without a data plane there are none of its metrics, and no scrape fails.
func TestCollectorWithoutDataPlane(t *testing.T) {
	for line := range scrape(t, Sample{Edge: "default", Mode: "none"}) {
		if strings.Contains(line, `stage="xdp"`) || strings.HasPrefix(line, "xdp_roam_authorized") {
			t.Errorf("unexpected: %s", line)
		}
	}
}
