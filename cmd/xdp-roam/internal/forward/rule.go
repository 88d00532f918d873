// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ErrRule is wrapped by every error of ParseRule.
var ErrRule = errors.New("write [ADDR:]PORT:SERVICE, such as 5353:53 or [::1]:5353:53")

// Rule forwards one local address to one service of the server.
type Rule struct {
	Local   netip.AddrPort
	Service uint16
}

// ParseRule reads "[ADDR:]PORT:SERVICE" as ssh's -L has it. Without ADDR it
// means 127.0.0.1: a session carries the client's identity, so other hosts get
// to use it only when an address of theirs is named. PORT 0 takes a free one.
func ParseRule(text string) (Rule, error) {
	bad := func(format string, args ...any) (Rule, error) {
		return Rule{}, fmt.Errorf("%q: %s: %w", text, fmt.Sprintf(format, args...), ErrRule)
	}
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return bad("no colon in it")
	}
	service, err := strconv.ParseUint(text[colon+1:], 10, 16)
	if err != nil || service == 0 {
		return bad("%q is not a service port from 1 to 65535", text[colon+1:])
	}
	local := text[:colon]
	if !strings.Contains(local, ":") {
		local = "127.0.0.1:" + local
	}
	address, err := netip.ParseAddrPort(local)
	if err != nil {
		return bad("%q is not a local address and port", text[:colon])
	}
	return Rule{Local: address, Service: uint16(service)}, nil
}
