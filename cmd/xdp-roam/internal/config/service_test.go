// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xdp-roam/xdp-roam/userspace/service"
)

func TestServiceLimits(t *testing.T) {
	c := Default()
	err := c.ReadFile(write(t, `
[[service]]
port = 22
backend = "tcp://localhost:22"
max_sessions = 100
max_sessions_per_client = 4
max_streams = 500
max_streams_per_client = 50
max_rate = "1Gbit"
max_rate_per_client = "12.5 MB"
connect_timeout = "5s"
idle_timeout = "1h30m"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := service.Limits{
		Sessions: 100, ClientSessions: 4, Streams: 500, ClientStreams: 50, Rate: 125_000_000, ClientRate: 12_500_000,
		ConnectTimeout: 5 * time.Second, IdleTimeout: 90 * time.Minute,
	}
	if diff := cmp.Diff(want, c.Services[0].Limits()); diff != "" {
		t.Error(diff)
	}
	if got := (Service{}).Limits(); got != (service.Limits{}) {
		t.Errorf("no limits: %+v", got)
	}
}

func TestBadServiceLimits(t *testing.T) {
	for line, want := range map[string]string{
		`max_rate = "1Mbps"`:      "is not a rate",
		`max_rate = "fastMbit"`:   "is not a rate",
		`max_rate = "-1Mbit"`:     "is not a rate",
		`max_rate = "NaNMbit"`:    "is not a rate",
		`max_rate = "1e40GB"`:     "is not a rate",
		`max_rate = 100`:          "max_rate",
		`idle_timeout = "soon"`:   "is not a time",
		`idle_timeout = "0s"`:     "is not a time",
		`idle_timeout = 10`:       "idle_timeout",
		`max_session = 1`:         `did you mean "max_sessions"?`,
		`connect_timeout = "-1s"`: "is not a time",
	} {
		c := Default()
		err := c.ReadFile(write(t, "[[service]]\nport = 7\nbackend = \"echo:\"\n"+line+"\n"))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", line, err, want)
		}
	}
}
