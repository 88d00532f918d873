// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestDialAndEcho(t *testing.T) {
	r := newRig(t, "127.0.0.1:0")
	identity := handshake.NewPrivateKey()
	s := r.dial(t, func(c *Config) { c.Identity = identity })
	echo(t, s, "hello")
	if s.RemoteAddr() != r.addr() || s.PeerKey() != r.key.Public() || s.Service() != 7 || s.PublicKey() != identity.Public() {
		t.Errorf("remote %v, key %v, service %d", s.RemoteAddr(), s.PeerKey(), s.Service())
	}
	if s.ObservedAddr() != s.LocalAddr() || !s.LocalAddr().Addr().IsLoopback() || s.LocalAddr().Port() == 0 {
		t.Errorf("local %v, observed %v", s.LocalAddr(), s.ObservedAddr())
	}
	r.with(func() {
		if len(r.sessions) != 1 || r.sessions[0].client != identity.Public() {
			t.Errorf("the server has %d sessions", len(r.sessions))
		}
	})
	if i := s.Info(); i.Sockets != 1 || i.Overflow != 0 || i.Received.Datagrams == 0 || i.Local != s.LocalAddr() {
		t.Errorf("%+v", i)
	}
}

func TestDialOverIPv6(t *testing.T) {
	if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skip("this host has no IPv6 loopback: ", err)
	} else {
		c.Close()
	}
	r := newRig(t, "[::1]:0")
	echo(t, r.dial(t), "hello")
}

func TestDialWithCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t, func(r *rig) { r.demandCookie = true })
		start := time.Now()
		echo(t, r.dial(t), "hello")
		if d := time.Since(start); d > 900*time.Millisecond {
			t.Errorf("took %v: RETRY was not answered at once", d)
		}
		r.with(func() {
			if r.retries != 1 || r.inits != 2 {
				t.Errorf("%d RETRY, %d INIT", r.retries, r.inits)
			}
		})
	})
}

func TestDialRepeatsINIT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t, func(r *rig) { r.dropInits = 1 })
		start := time.Now()
		r.dial(t)
		if d := time.Since(start); d < time.Second || d > 1900*time.Millisecond {
			t.Errorf("took %v, the repeat is due after 1 s", d)
		}
	})
}

func TestDialTriesTheNextServer(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := newRig(t, "127.0.0.1:0")
	s := r.dial(t, func(c *Config) {
		c.Servers = []netip.AddrPort{silent.LocalAddr().(*net.UDPAddr).AddrPort(), r.addr()}
	})
	if s.RemoteAddr() != r.addr() {
		t.Errorf("the session is with %v", s.RemoteAddr())
	}
	echo(t, s, "hello")
}

func TestDialRefused(t *testing.T) {
	for status, want := range map[wire.Status]string{
		wire.StatusNotAuthorised: "authorized_keys", wire.StatusNoService: "service port", wire.StatusFull: "try again",
	} {
		r := newRig(t, "127.0.0.1:0", func(r *rig) { r.refuse = status })
		identity := handshake.NewPrivateKey()
		_, err := Dial(t.Context(), r.config(func(c *Config) { c.Identity = identity }))
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Status != status || refused.Reason != "because of the test" || refused.Key != identity.Public() {
			t.Fatalf("%v: %v", status, err)
		}
		if !strings.Contains(err.Error(), refused.Reason) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", status, err)
		}
	}
}

func TestDialWrongKeyIsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := Dial(ctx, r.config(func(c *Config) { c.ServerKey = handshake.NewPrivateKey().Public() }))
		if !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "public key") {
			t.Errorf("got %v", err)
		}
		r.with(func() {
			if r.inits != 0 {
				t.Error("an INIT for another server passed mac1")
			}
		})
	})
}

func TestDialWrongPSK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSimRig(t)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := Dial(ctx, r.config(func(c *Config) { c.PSK = handshake.PSK{1} }))
		if !errors.Is(err, handshake.ErrNoPSK) {
			t.Errorf("a server without one: %v", err)
		}
		r.with(func() { r.psk = handshake.PSK{2} })
		_, err = Dial(ctx, r.config(func(c *Config) { c.PSK = handshake.PSK{1} }))
		if !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "preshared key") {
			t.Errorf("a server with another: %v", err)
		}
	})
}

func TestDialWithoutRoute(t *testing.T) {
	r := newRig(t, "127.0.0.1:0")
	_, err := Dial(t.Context(), r.config(func(c *Config) { c.Network = newNetwork("", "") }))
	if !errors.Is(err, ErrNoRoute) || !errors.Is(err, errNoRoute) || !strings.Contains(err.Error(), r.addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestDialConfig(t *testing.T) {
	good := Config{Servers: []netip.AddrPort{serverA}, ServerKey: handshake.NewPrivateKey().Public()}
	for name, mend := range map[string]func(*Config){
		"no server":         func(c *Config) { c.Servers = nil },
		"bad name":          func(c *Config) { c.Server = "edge.test:99999" },
		"no port":           func(c *Config) { c.Servers = []netip.AddrPort{netip.AddrPortFrom(serverA.Addr(), 0)} },
		"wildcard":          func(c *Config) { c.Servers = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:1")} },
		"zero address":      func(c *Config) { c.Servers = []netip.AddrPort{{}} },
		"no key":            func(c *Config) { c.ServerKey = handshake.PublicKey{} },
		"key of low order":  func(c *Config) { c.ServerKey = handshake.PublicKey{1} },
		"negative idle":     func(c *Config) { c.Params.IdleTimeout = -1 },
		"negative buffer":   func(c *Config) { c.ReceiveBuffer = -1 },
		"multicast address": func(c *Config) { c.Servers = []netip.AddrPort{netip.MustParseAddrPort("224.0.0.1:1")} },
	} {
		cfg := good
		mend(&cfg)
		if _, err := Dial(t.Context(), cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDialLeaksNothing(t *testing.T) {
	r := newRig(t, "127.0.0.1:0")
	before := runtime.NumGoroutine()
	for range 3 {
		s, err := Dial(t.Context(), r.config())
		if err != nil {
			t.Fatal(err)
		}
		echo(t, s, "x")
		if err := s.Close(wire.CloseDone, "bye"); err != nil {
			t.Errorf("close: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := Dial(ctx, r.config(func(c *Config) { c.PSK = handshake.PSK{1} })); err == nil {
			t.Error("dialled with a wrong preshared key")
		}
		cancel()
	}
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before })
}

func TestResolve(t *testing.T) {
	for server, want := range map[string]string{
		"192.0.2.1":            "192.0.2.1:7626",
		"192.0.2.1:5":          "192.0.2.1:5",
		"2001:db8::1":          "[2001:db8::1]:7626",
		"[2001:db8::1]:5":      "[2001:db8::1]:5",
		"[::ffff:192.0.2.1]:5": "192.0.2.1:5",
	} {
		got, err := Resolve(t.Context(), server)
		if err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("%s: %v %v", server, got, err)
		}
	}
	for _, server := range []string{"", ":7626", "host:port", "host:0", "host:65536", "a:b:c"} {
		if got, err := Resolve(t.Context(), server); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v %v", server, got, err)
		}
	}
	if got, err := Resolve(t.Context(), "localhost"); err != nil || len(got) == 0 || got[0].Port() != wire.DefaultPort {
		t.Errorf("localhost: %v %v", got, err)
	}
}
