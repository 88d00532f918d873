// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// ErrSpec means that a backend's specification is not understood.
var ErrSpec = errors.New("bad backend")

const usage = "use echo:, discard:, udp://host:port, tcp://host:port or unix:///path"

// maxUnixPath is the longest path of a socket that every system takes, in bytes
// (sun_path: 104 with its end on macOS, 108 on Linux).
const maxUnixPath = 103

func parse(spec string) (backend, error) {
	scheme, rest, ok := strings.Cut(spec, ":")
	if !ok {
		return nil, specError(spec, "it has no scheme; %s", usage)
	}
	switch scheme {
	case "echo", "discard":
		if rest != "" {
			return nil, specError(spec, "nothing may follow %q", scheme+":")
		}
		if scheme == "echo" {
			return echo{}, nil
		}
		return discard{}, nil
	case "udp":
		address, err := parseAddress(spec, scheme, rest)
		return udp{address}, err
	case "tcp":
		rest, proxy, err := parseProxy(spec, rest)
		if err != nil {
			return nil, err
		}
		address, err := parseAddress(spec, scheme, rest)
		return &streams{spec: spec, network: "tcp", address: address, proxy: proxy}, err
	case "unix":
		rest, proxy, err := parseProxy(spec, rest)
		if err != nil {
			return nil, err
		}
		name, ok := strings.CutPrefix(rest, "//")
		if !ok || !path.IsAbs(name) || path.Clean(name) != name {
			return nil, specError(spec, "write unix:// and an absolute path, such as unix:///run/app.sock")
		}
		if len(name) > maxUnixPath {
			return nil, specError(spec, "the path has %d bytes, and a socket's has at most %d", len(name), maxUnixPath)
		}
		return &streams{spec: spec, network: "unix", address: name, proxy: proxy}, nil
	}
	return nil, specError(spec, "scheme %q is unknown; %s", scheme, usage)
}

// parseProxy takes "?proxy=v2" off.
func parseProxy(spec, rest string) (without string, proxy bool, err error) {
	without, query, ok := strings.Cut(rest, "?")
	if !ok {
		return rest, false, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil || len(values) != 1 || len(values["proxy"]) != 1 {
		return "", false, specError(spec, "after the '?' there may be proxy=v2 alone")
	}
	if v := values.Get("proxy"); v != "v2" {
		return "", false, specError(spec, "proxy=%s is unknown; write proxy=v2", v)
	}
	return without, true, nil
}

// parseAddress reads "//host:port".
func parseAddress(spec, scheme, rest string) (string, error) {
	address, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return "", specError(spec, "write %s://host:port", scheme)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", specError(spec, "%v; write %s://host:port", err, scheme)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", specError(spec, "port %q is no number from 1 to 65535", port)
	}
	if host == "" {
		return "", specError(spec, "the host is missing; for this machine write %s://localhost:%s", scheme, port)
	}
	return address, nil
}

func specError(spec, format string, args ...any) error {
	return fmt.Errorf("%w %q: %s", ErrSpec, spec, fmt.Sprintf(format, args...))
}
