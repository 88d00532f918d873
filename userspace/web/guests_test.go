// SPDX-License-Identifier: Apache-2.0

package web

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"testing"
	"time"
)

// Strangers take every connection there is, send half a request and wait. Whoever has
// the token gets in at once all the same, and once known is not pushed out by more.
func TestStrangersHoldNobodyUp(t *testing.T) {
	s, err := Listen(t.Context(), Config{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), Token: secret, Metrics: says("metrics"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Serve() }()
	defer func() {
		s.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	crowd := func() {
		for range 3 * maxGuests {
			c, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
		}
	}
	client := http.Client{Transport: new(http.Transport), Timeout: 5 * time.Second} // before a stranger's time is over
	defer client.CloseIdleConnections()
	for again := range 2 {
		crowd()
		r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) {
				if info.Reused != (again > 0) {
					t.Errorf("time %d: the same connection: %v", again, info.Reused)
				}
			},
		}), "GET", fmt.Sprintf("http://%v/metrics", s.Addr()), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+secret)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatalf("time %d: %v", again, err)
		}
		if text, err := io.ReadAll(resp.Body); string(text) != "metrics" || err != nil {
			t.Errorf("time %d: %q, %v", again, text, err)
		}
		resp.Body.Close()
	}
}

// aConn is a connection from an address, which notes that it was closed.
type aConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *aConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.from), 1))
}

func (c *aConn) Close() error {
	c.closed = true
	return nil
}

// listenerOf returns one connection after the other.
type listenerOf struct {
	net.Listener
	next *aConn
}

func (l *listenerOf) Accept() (net.Conn, error) { return l.next, nil }

// A network that has its share pushes out its own first one, and no one else's; a
// crowd of many networks the first of all; those who are known or gone do not count.
func TestGuestShare(t *testing.T) {
	l := new(listenerOf)
	g := &guests{Listener: l}
	come := func(from string) (*aConn, *guest) {
		t.Helper()
		l.next = &aConn{from: from}
		c, err := g.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return l.next, c.(*guest)
	}
	other, _ := come("198.51.100.1")
	known, guest := come("2001:db8::1")
	guest.leave()
	var all []*aConn
	for i := range guestShare + 2 {
		c, _ := come(fmt.Sprintf("2001:db8::%x", i+1)) // one /64
		all = append(all, c)
	}
	for i, c := range all {
		if c.closed != (i < 2) {
			t.Errorf("%d of %d of a network: closed %v", i, len(all), c.closed)
		}
	}
	if other.closed || known.closed {
		t.Error("others went for them")
	}
	for i := range maxGuests - guestShare {
		come(fmt.Sprintf("203.0.113.%d", i))
	}
	if !other.closed || known.closed || all[2].closed || len(g.open) != maxGuests {
		t.Errorf("a crowd: the first closed %v, the second %v, the known one %v; %d are there", other.closed, all[2].closed, known.closed, len(g.open))
	}
	proxy := &guests{Listener: l}
	g = proxy
	for range maxGuests {
		come("127.0.0.1")
	}
	if len(proxy.open) != maxGuests {
		t.Errorf("behind a proxy %d are let in", len(proxy.open))
	}
}
