// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const serverPort = 7

// patience is what a busy machine may take for what an idle one does at once.
const patience = 30 * time.Second

// echoed is a server on the edge that answers with the address it saw, and with
// what it was sent.
func echoed(t *testing.T, topology *Topology) {
	t.Helper()
	for _, addr := range []netip.Addr{EdgeV4, EdgeV6} {
		conn, err := topology.Edge.ListenUDP(netip.AddrPortFrom(addr, serverPort))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			b := make([]byte, 2048)
			for {
				size, from, err := conn.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				conn.WriteToUDPAddrPort(fmt.Appendf(nil, "%v %s", from, b[:size]), from)
			}
		}()
	}
}

// ask sends a datagram and returns the answer: our address as the edge saw it.
// It asks again, as one must on a network that has just come up.
func ask(t *testing.T, conn *net.UDPConn, server netip.Addr) (seen netip.AddrPort, err error) {
	t.Helper()
	return askFor(conn, server, patience)
}

// tryToAsk is ask where no answer is expected.
func tryToAsk(conn *net.UDPConn, server netip.Addr) (seen netip.AddrPort, err error) {
	return askFor(conn, server, time.Second)
}

var questions atomic.Uint64

func askFor(conn *net.UDPConn, server netip.Addr, limit time.Duration) (seen netip.AddrPort, err error) {
	question := fmt.Sprint("who am I? ", questions.Add(1)) // an answer to another may still come
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if _, err := conn.WriteToUDPAddrPort([]byte(question), netip.AddrPortFrom(server, serverPort)); err != nil {
			return netip.AddrPort{}, err
		}
		for {
			var asked string
			if seen, asked, err = listen(conn, 200*time.Millisecond); err != nil {
				break
			}
			if asked == question {
				return seen, nil
			}
		}
	}
	return seen, err
}

// listen waits for an answer of echoed, to what was asked.
func listen(conn *net.UDPConn, wait time.Duration) (seen netip.AddrPort, asked string, err error) {
	conn.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 100)
	size, _, err := conn.ReadFromUDPAddrPort(b)
	if err != nil {
		return netip.AddrPort{}, "", err
	}
	addr, asked, _ := strings.Cut(string(b[:size]), " ")
	seen, err = netip.ParseAddrPort(addr)
	return seen, asked, err
}
