// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// accessList is an Authorize that a test changes.
type accessList struct {
	atomic.Pointer[map[handshake.PublicKey]Access]
}

func newAccessList(list map[handshake.PublicKey]Access) *accessList {
	l := new(accessList)
	l.Store(&list)
	return l
}

func (l *accessList) authorize(key handshake.PublicKey, _ uint16) Access { return (*l.Load())[key] }

// Each client has a preshared key of its own, which the server finds by the key that INIT proves.
func TestPSKForEachClient(t *testing.T) {
	one, two, none := handshake.NewPrivateKey(), handshake.NewPrivateKey(), handshake.NewPrivateKey()
	list := newAccessList(map[handshake.PublicKey]Access{
		one.Public():  {Allowed: true, Name: "one", PSK: handshake.PSK{1}},
		two.Public():  {Allowed: true, Name: "two", PSK: handshake.PSK{2}},
		none.Public(): {Allowed: true, Name: "none"},
	})
	srv := listen(t, func(c *Config) { c.Authorize = list.authorize })
	for _, c := range []struct {
		key handshake.PrivateKey
		psk handshake.PSK
	}{{one, handshake.PSK{1}}, {two, handshake.PSK{2}}, {none, handshake.PSK{}}} {
		client := dial(t, srv, "127.0.0.1", func(cfg *handshake.ClientConfig) { cfg.Static, cfg.PSK = c.key, c.psk })
		s := accept(t, srv)
		if s.PeerKey() != c.key.Public() {
			t.Errorf("session of %v, want %v", s.PeerKey(), c.key.Public())
		}
		if err := s.SendDatagram([]byte("hello")); err != nil || client.receive() != "hello" {
			t.Errorf("%s: %v", s.PeerName(), err)
		}
	}
	// A stranger who has a preshared key for this server is told why it is refused.
	init, _ := newAttempt(t, srv, func(cfg *handshake.ClientConfig) { cfg.PSK = handshake.PSK{1} })
	if reply, _ := exchange(t, newSocket(t, "127.0.0.1", srv), init); reply.Status != wire.StatusNotAuthorised {
		t.Errorf("a stranger: %v", reply.Status)
	}
}

// Revoke ends what it names, with its reason, and nothing else.
func TestRevoke(t *testing.T) {
	gone, stays := handshake.NewPrivateKey(), handshake.NewPrivateKey()
	srv := listen(t, nil)
	out := dial(t, srv, "127.0.0.1", func(c *handshake.ClientConfig) { c.Static = gone })
	outside := accept(t, srv)
	in := dial(t, srv, "127.0.0.1", func(c *handshake.ClientConfig) { c.Static = stays })
	inside := accept(t, srv)
	ended := srv.Revoke(func(key handshake.PublicKey, service uint16) string {
		if key == gone.Public() && service == 7 {
			return "your key was removed"
		}
		return ""
	})
	if ended != 1 {
		t.Errorf("%d sessions ended, want 1", ended)
	}
	if e := out.closedWith(); e.Code != wire.CloseNotAuthorised || e.Text != "your key was removed" {
		t.Errorf("the client learned %v %q", e.Code, e.Text)
	}
	<-outside.Done()
	if err := inside.SendDatagram([]byte("still here")); err != nil || in.receive() != "still here" {
		t.Errorf("the other session: %v", err)
	}
}

// A key that is removed between RESP and the client's first packet does not slip in.
func TestRevokedBeforeConfirmation(t *testing.T) {
	key := handshake.NewPrivateKey()
	list := newAccessList(map[handshake.PublicKey]Access{key.Public(): {Allowed: true}})
	var mu sync.Mutex
	var log bytes.Buffer
	srv := listen(t, func(c *Config) {
		c.Authorize, c.Log = list.authorize, slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	})
	init, cfg := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Static = key })
	socket := newSocket(t, "127.0.0.1", srv)
	reply, _ := exchange(t, socket, init)
	list.Store(&map[handshake.PublicKey]Access{key.Public(): {Reason: "not any more"}})
	client := newClient(t, socket, cfg, reply)
	if e := client.closedWith(); e.Code != wire.CloseNotAuthorised || e.Text != "not any more" {
		t.Errorf("the client learned %v %q", e.Code, e.Text)
	}
	if st := srv.Stats(); st.Opened != 0 {
		t.Errorf("%d sessions opened", st.Opened)
	}
	eventually(t, "the log tells of the refusal", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(log.String(), "msg=session_refused") && strings.Contains(log.String(), `reason="not any more"`)
	})
}

// A preshared key that changes while a handshake is under way leaves no session
// behind that was made with the one before, whenever Revoke looked.
func TestPSKChangesDuringHandshake(t *testing.T) {
	key := handshake.NewPrivateKey()
	var asked atomic.Int64
	srv := listen(t, func(c *Config) {
		c.Authorize = func(handshake.PublicKey, uint16) Access {
			if asked.Add(1) == 1 {
				return Access{Allowed: true, PSK: handshake.PSK{1}}
			}
			return Access{Allowed: true, PSK: handshake.PSK{2}}
		}
	})
	init, _ := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Static, c.PSK = key, handshake.PSK{1} })
	newSocket(t, "127.0.0.1", srv).send(init.Packet())
	eventually(t, "the handshake is given up", func() bool { return srv.Stats().Packets[HandshakeBusy] == 1 })
	left := 0
	srv.EachSession(func(s *Session) bool {
		if s.Err() == nil {
			left++
		}
		return true
	})
	if left != 0 {
		t.Errorf("%d sessions go on", left)
	}
	init, cfg := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Static, c.PSK = key, handshake.PSK{2} })
	socket := newSocket(t, "127.0.0.1", srv)
	reply, _ := exchange(t, socket, init)
	newClient(t, socket, cfg, reply)
	accept(t, srv)
}

// A client's own bound on its sessions goes before that of all keys.
func TestSessionsOfClient(t *testing.T) {
	key := handshake.NewPrivateKey()
	list := newAccessList(map[handshake.PublicKey]Access{key.Public(): {Allowed: true, Sessions: 2}})
	srv := listen(t, func(c *Config) { c.Authorize, c.Limits.KeySessions = list.authorize, 1 })
	for range 2 {
		dial(t, srv, "127.0.0.1", func(c *handshake.ClientConfig) { c.Static = key })
		accept(t, srv)
	}
	init, _ := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Static = key })
	if reply, _ := exchange(t, newSocket(t, "127.0.0.1", srv), init); reply.Status != wire.StatusBusy || reply.Code != wire.CloseLimit {
		t.Errorf("a third session: %v %v %q", reply.Status, reply.Code, reply.Reason)
	}
}
