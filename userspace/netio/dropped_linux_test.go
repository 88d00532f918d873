// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"
)

// TestDropped fills a socket that nobody reads: what was sent is read later, or was
// dropped and counted.
func TestDropped(t *testing.T) {
	const sent = 500
	server := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), ReadBuffer: 1 << 16})
	client := listenOrSkip(t, Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	for i := range sent { // of many sizes: no trains
		send(t, client, Message{Buf: make([]byte, 500+i), Remote: server.LocalAddr()})
	}
	got, deadline := 0, time.Now().Add(patience)
	for got+int(server.Dropped()) < sent && time.Now().Before(deadline) {
		if err := server.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := server.ReadBatch(rooms(MaxBatch, 2048))
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		got += n
	}
	dropped := server.Dropped()
	if dropped == 0 || got+int(dropped) != sent {
		t.Errorf("%d sent, %d read, %d dropped", sent, got, dropped)
	}
	server.Close()
	if after := server.Dropped(); after != dropped {
		t.Errorf("%d dropped, %d after Close", dropped, after)
	}
}
