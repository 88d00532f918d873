// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Not everything that keeps an address from being bound means that the host has
// lost it: clients that are told so leave it for good.
func TestHostHas(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1":  true,
		"192.0.2.77": false, // TEST-NET-1: no host has it
		"fe80::7626": true,  // without its interface the kernel cannot say
	} {
		if got := hostHas(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	has := hostHas(netip.MustParseAddr("127.0.0.1"))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !has {
		t.Error("without a descriptor to ask with, 127.0.0.1 is taken for lost")
	}
}
