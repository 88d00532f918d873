// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseErrors(t *testing.T) {
	for spec, want := range map[string]string{
		"":                         "no scheme",
		"echo":                     "no scheme",
		"echo:7":                   "nothing may follow",
		"gopher://localhost:1":     "unknown",
		"udp:localhost:53":         "udp://host:port",
		"udp://localhost":          "udp://host:port",
		"udp://localhost:":         "1 to 65535",
		"udp://localhost:0":        "1 to 65535",
		"udp://localhost:http":     "1 to 65535",
		"udp://localhost:70000":    "1 to 65535",
		"udp://:53":                "host is missing",
		"udp://h:53?proxy=v2":      "1 to 65535",
		"tcp://:22":                "write tcp://localhost:22",
		"tcp:localhost:22":         "tcp://host:port",
		"tcp://h:22?proxy=v1":      "write proxy=v2",
		"tcp://h:22?proxy":         "write proxy=v2",
		"tcp://h:22?x=y":           "proxy=v2 alone",
		"tcp://h:22?proxy=v2&x=1":  "proxy=v2 alone",
		"tcp://h:22?proxy=v2;x":    "proxy=v2 alone",
		"unix:/run/x":              "unix:///run/app.sock",
		"unix://run/x":             "unix:///run/app.sock",
		"unix://":                  "unix:///run/app.sock",
		"unix:///run/../etc/x":     "unix:///run/app.sock",
		"unix:///run/x?proxy=only": "write proxy=v2",

		"unix:///" + strings.Repeat("x", 103): "a socket's has at most 103",
	} {
		s, err := New(spec, Limits{}, nil)
		if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want an error with %q", spec, s, err, want)
		}
	}
}

func TestLimitsErrors(t *testing.T) {
	for spec, l := range map[string]Limits{
		"echo:":         {Streams: 1},
		"discard:":      {ConnectTimeout: time.Second},
		"udp://h:1":     {IdleTimeout: time.Second},
		"tcp://h:1":     {Rate: -1},
		"unix:///run/x": {ClientSessions: -1},
	} {
		if _, err := New(spec, l, nil); !errors.Is(err, ErrLimits) {
			t.Errorf("%s with %+v: %v", spec, l, err)
		}
	}
}
