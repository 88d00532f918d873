// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestPortOwnersFindsThisProcess(t *testing.T) {
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(name)), os.Getpid())
	for _, network := range []string{"udp4", "udp6"} {
		conn, err := net.ListenUDP(network, nil)
		if err != nil {
			t.Logf("%s: %v", network, err)
			continue
		}
		port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if owners := portOwners(port); !slices.Contains(owners, want) {
			t.Errorf("%s port %d: %q, want %q among them", network, port, owners, want)
		}
		conn.Close()
		if owners := portOwners(port); slices.Contains(owners, want) {
			t.Errorf("%s port %d is closed, yet %q own it", network, port, owners)
		}
	}
}
