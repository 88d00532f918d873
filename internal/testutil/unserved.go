// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"net"
	"testing"
)

// Unserved returns an address of the IPv4 loopback at which nothing listens, network
// being "tcp" or "udp". Until free is called, or the test ends, the system gives its
// port to nobody else: one that was merely closed may be another test's at once.
func Unserved(t testing.TB, network string) (address string, free func()) {
	t.Helper()
	// An end of a conversation with another port has its own, and does not serve there.
	var conn net.Conn
	var err error
	switch network {
	case "tcp":
		var l net.Listener
		if l, err = net.Listen(network, "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		conn, err = net.Dial(network, l.Addr().String())
	case "udp":
		conn, err = net.Dial(network, "127.0.0.1:9")
	}
	if err != nil {
		t.Fatal(err)
	}
	free = func() {
		if c, ok := conn.(*net.TCPConn); ok {
			_ = c.SetLinger(0) // else the port would stay taken for a while
		}
		conn.Close()
	}
	t.Cleanup(free)
	return conn.LocalAddr().String(), free
}
