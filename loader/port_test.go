// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPortOwnersFindsThisProcess(t *testing.T) {
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(name)), os.Getpid())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).AddrPort().Port()
	if owners := PortOwners("tcp", port); !slices.Contains(owners, want) {
		t.Errorf("tcp port %d: %q, want %q among them", port, owners, want)
	}
	for _, network := range []string{"udp4", "udp6"} {
		conn, err := net.ListenUDP(network, nil)
		if err != nil {
			t.Logf("%s: %v", network, err)
			continue
		}
		port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if owners := PortOwners("udp", port); !slices.Contains(owners, want) {
			t.Errorf("%s port %d: %q, want %q among them", network, port, owners, want)
		}
		conn.Close()
		if owners := PortOwners("udp", port); slices.Contains(owners, want) {
			t.Errorf("%s port %d is closed, yet %q own it", network, port, owners)
		}
	}
}

func TestCheckPort(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	address := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	wantError(t, CheckPort(address), ErrConflict, "cannot listen on "+address.String(), fmt.Sprintf("(pid %d)", os.Getpid()), "another port")
	conn.Close()
	if err := CheckPort(address); err != nil {
		t.Errorf("a free port: %v", err)
	}
	wantError(t, CheckPort(netip.MustParseAddrPort("192.0.2.77:7626")), unix.EADDRNOTAVAIL, "no interface of this host has this address", "--listen :7626")
	if err := CheckPort(netip.MustParseAddrPort("192.0.2.77:0")); err != nil {
		t.Errorf("any port: %v", err)
	}
}
