// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package client

import (
	"net"
	"net/netip"
	"time"
)

// wayBy returns the address of an interface: systems other than Linux send from
// an address through its interface, or are told to by policy.
func wayBy(i net.Interface, remote netip.AddrPort) (Way, bool) {
	addr, ok := addressOf(i, remote)
	return Way{Addr: addr}, ok
}

// began is when the wall clock and the monotonic clock were compared first.
var began = time.Now()

// slept takes for sleep what the wall clock has gained on the monotonic one. A
// step of the wall clock looks the same, and costs a race.
func slept() time.Duration {
	now := time.Now()
	return now.Round(0).Sub(began.Round(0)) - now.Sub(began)
}
