// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ErrRule is wrapped by every error of ParseRule.
var ErrRule = errors.New("write [ADDR:]PORT:SERVICE, such as 2222:22, [::1]:8080:http or 5353:53/udp")

// ErrService is wrapped by every error of ParseService.
var ErrService = errors.New("write a service's number, or the usual name of that number, such as 22 or ssh")

// The networks of a Rule.
const (
	NetworkTCP = "tcp"
	NetworkUDP = "udp"
)

// Rule forwards one local address to one service of the server.
type Rule struct {
	Local   netip.AddrPort
	Service uint16
	// Network is NetworkTCP, for a service of streams, or NetworkUDP, for one of datagrams.
	Network string
}

// String returns what ParseRule takes.
func (r Rule) String() string { return fmt.Sprintf("%v:%d/%s", r.Local, r.Service, r.Network) }

// ParseRule reads "[ADDR:]PORT:SERVICE[/tcp|/udp]" as ssh's -L has it; without
// either suffix it is of the network that is given. Without ADDR it means
// 127.0.0.1: a session carries the client's identity, so other hosts get
// to use it only when an address of theirs is named. PORT 0 takes a free one.
func ParseRule(text, network string) (Rule, error) {
	bad := func(format string, args ...any) (Rule, error) {
		return Rule{}, fmt.Errorf("%q: %s: %w", text, fmt.Sprintf(format, args...), ErrRule)
	}
	body, suffix, ok := strings.Cut(text, "/")
	if ok {
		if suffix != NetworkTCP && suffix != NetworkUDP {
			return bad("%q is neither /tcp nor /udp", "/"+suffix)
		}
		network = suffix
	}
	colon := strings.LastIndexByte(body, ':')
	if colon < 0 {
		return bad("no colon in it")
	}
	service, err := ParseService(body[colon+1:], network)
	if err != nil {
		return bad("%q is no service port from 1 to 65535, nor the usual name of one", body[colon+1:])
	}
	local := body[:colon]
	if !strings.Contains(local, ":") {
		local = "127.0.0.1:" + local
	}
	address, err := netip.ParseAddrPort(local)
	if err != nil {
		return bad("%q is not a local address and port", body[:colon])
	}
	return Rule{Local: address, Service: service, Network: network}, nil
}

// ParseService reads a service port: a number from 1 to 65535, or a name that this
// system has for one, such as ssh for 22.
func ParseService(text, network string) (uint16, error) {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil && n != 0 {
		return uint16(n), nil
	}
	// The resolver would take signs, blanks and the empty name.
	if text == "" || !('a' <= text[0]|0x20 && text[0]|0x20 <= 'z') {
		return 0, fmt.Errorf("%q: %w", text, ErrService)
	}
	n, err := net.LookupPort(network, text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q: %w", text, ErrService)
	}
	return uint16(n), nil
}
