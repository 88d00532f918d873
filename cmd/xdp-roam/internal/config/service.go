// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/service"
)

// Service forwards one service port to a backend, within limits: see
// service.Limits. A limit that is not written is none, or the usual one.
type Service struct {
	Port uint16 `toml:"port"`
	// Name is what authorized_keys may call it.
	Name    string `toml:"name,omitempty"`
	Backend string `toml:"backend"`

	MaxSessions          int      `toml:"max_sessions,omitzero"`
	MaxSessionsPerClient int      `toml:"max_sessions_per_client,omitzero"`
	MaxStreams           int      `toml:"max_streams,omitzero"`
	MaxStreamsPerClient  int      `toml:"max_streams_per_client,omitzero"`
	MaxRate              Rate     `toml:"max_rate,omitempty"`
	MaxRatePerClient     Rate     `toml:"max_rate_per_client,omitempty"`
	ConnectTimeout       Duration `toml:"connect_timeout,omitempty"`
	IdleTimeout          Duration `toml:"idle_timeout,omitempty"`
}

// Limits are what the service package is told.
func (s Service) Limits() service.Limits {
	return service.Limits{
		Sessions: s.MaxSessions, ClientSessions: s.MaxSessionsPerClient,
		Streams: s.MaxStreams, ClientStreams: s.MaxStreamsPerClient,
		Rate: s.MaxRate.bytes(), ClientRate: s.MaxRatePerClient.bytes(),
		ConnectTimeout: s.ConnectTimeout.duration(), IdleTimeout: s.IdleTimeout.duration(),
	}
}

// ParseService reads the flag's form of a service, "PORT=BACKEND".
func ParseService(text string) (Service, error) {
	port, backend, ok := strings.Cut(text, "=")
	if !ok {
		return Service{}, invalid("service", "%q has no '='; write PORT=BACKEND, such as 7=echo:", text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Service{}, invalid("service", "%q is not a service port; it is a number from 1 to 65535", port)
	}
	return Service{Port: uint16(number), Backend: backend}, nil
}

func (c *Config) checkServices(checkService func(Service) error) []error {
	if len(c.Services) == 0 {
		return []error{invalid("service", "none; add one, such as\n  [[service]]\n  port = 7\n  backend = \"echo:\"\nor --service 7=echo:")}
	}
	var wrong []error
	seen, named := make(map[uint16]bool), make(map[string]bool)
	for _, s := range c.Services {
		switch err := checkService(s); {
		case s.Port == 0:
			wrong = append(wrong, invalid("service", "port 0 is not a service port; it is a number from 1 to 65535"))
		case seen[s.Port]:
			wrong = append(wrong, invalid("service", "port %d is given twice", s.Port))
		case s.Name != "" && !isServiceName(s.Name):
			wrong = append(wrong, invalid("service", "%q is not a name of letters, digits and '-' that begins with a letter", s.Name))
		case named[s.Name]:
			wrong = append(wrong, invalid("service", "the name %q is given twice", s.Name))
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%w: service %d: %w", ErrInvalid, s.Port, err))
		}
		seen[s.Port] = true
		named[s.Name] = s.Name != ""
	}
	return wrong
}

// isServiceName reports whether text can name a service (RFC 6335 section 5.1,
// without its limit of 15 characters).
func isServiceName(text string) bool {
	for i, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r != '-' && (r < '0' || r > '9')) {
			return false
		}
	}
	return text != ""
}

// Rate is bytes a second as people write them: "100Mbit" or "12.5MB", decimal
// units. It keeps their spelling for `config show`. Empty: none.
type Rate string

// Units of a Rate, in bytes a second.
var rateUnits = []struct {
	name  string
	bytes float64
}{{"kbit", 1e3 / 8}, {"Mbit", 1e6 / 8}, {"Gbit", 1e9 / 8}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(text []byte) error {
	if _, err := parseRate(string(text)); err != nil {
		return err
	}
	*r = Rate(text)
	return nil
}

func (r Rate) bytes() int64 {
	n, _ := parseRate(string(r)) // it was checked when it was read
	return n
}

func parseRate(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	for _, unit := range rateUnits {
		number, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if bytes := n * unit.bytes; err == nil && bytes >= 1 && bytes < 1<<60 {
			return int64(bytes), nil
		}
	}
	return 0, fmt.Errorf("%q is not a rate; write such as 800kbit, 100Mbit or 12.5MB (a second)", text)
}

// Duration is a time as Go writes it: "10s", "1h30m". It keeps its spelling.
// Empty: none.
type Duration string

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	if n, err := time.ParseDuration(string(text)); err != nil || n <= 0 {
		return fmt.Errorf("%q is not a time; write such as 10s, 5m or 24h", text)
	}
	*d = Duration(text)
	return nil
}

func (d Duration) duration() time.Duration {
	n, _ := time.ParseDuration(string(d)) // it was checked when it was read
	return n
}
