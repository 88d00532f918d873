// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestCookiePolicies(t *testing.T) {
	for _, tc := range []struct {
		policy  CookiePolicy
		rate    int // of INITs without a cookie under auto
		retries [4]int
	}{
		{CookieAlways, 0, [4]int{1, 1, 1, 1}},
		{CookieNever, 1, [4]int{0, 0, 0, 0}},
		{CookieAuto, 0, [4]int{0, 0, 0, 0}},
		{CookieAuto, 1, [4]int{0, 0, 1, 1}}, // a burst of one for each of two workers
	} {
		srv := listen(t, func(c *Config) { c.Cookie, c.Limits.UncookiedRate = tc.policy, tc.rate })
		var total uint64
		for i, want := range tc.retries {
			init, _ := newAttempt(t, srv, nil)
			reply, retries := exchange(t, newSocket(t, "127.0.0.1", srv), init)
			if retries != want || reply.Status != wire.StatusAccepted {
				t.Errorf("%v at %d/s: INIT %d got %d RETRYs, want %d, and %v", tc.policy, tc.rate, i, retries, want, reply.Status)
			}
			total += uint64(retries)
		}
		count(t, srv, RetrySent, total)
		count(t, srv, RespAccepted, 4)
	}
}

// TestCookieBinds uses a cookie where it does not belong: it counts as none.
func TestCookieBinds(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Cookie = CookieAlways })
	a, b := newSocket(t, "127.0.0.1", srv), newSocket(t, "127.0.0.1", srv)
	init, _ := newAttempt(t, srv, nil)
	a.send(init.Packet())
	_, cookie, err := wire.ParseRetry(a.read(patience))
	if err != nil {
		t.Fatal(err)
	}
	init.SetCookie(cookie)
	b.send(init.Packet()) // another port
	if _, _, err := wire.ParseRetry(b.read(patience)); err != nil {
		t.Errorf("from another port: %v", err)
	}
	other, _ := newAttempt(t, srv, nil)
	other.SetCookie(cookie)
	a.send(other.Packet()) // another handshake id
	if _, _, err := wire.ParseRetry(a.read(patience)); err != nil {
		t.Errorf("for another handshake: %v", err)
	}
	cookie[15] ^= 1
	init.SetCookie(cookie)
	a.send(init.Packet()) // forged
	if _, _, err := wire.ParseRetry(a.read(patience)); err != nil {
		t.Errorf("forged: %v", err)
	}
	cookie[15] ^= 1
	init.SetCookie(cookie)
	if _, retries := exchange(t, a, init); retries != 0 {
		t.Errorf("the right one: %d RETRYs", retries)
	}
}

func TestThreatClientNotListed(t *testing.T) {
	known, stranger := handshake.NewPrivateKey(), handshake.NewPrivateKey()
	srv := listen(t, func(c *Config) {
		c.Authorize = func(k handshake.PublicKey, service uint16) Access {
			return Access{Name: "known", Allowed: k == known.Public() && service != 9}
		}
		c.HasService = func(service uint16) bool { return service == 7 || service == 9 }
		c.Limits.KeySessions = 1
	})
	try := func(key handshake.PrivateKey, service uint16) *handshake.Reply {
		init, _ := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Static, c.Service = key, service })
		reply, _ := exchange(t, newSocket(t, "127.0.0.1", srv), init)
		return reply
	}
	for _, tc := range []struct {
		name    string
		key     handshake.PrivateKey
		service uint16
		status  wire.Status
	}{
		{"a stranger", stranger, 7, wire.StatusNotAuthorised},
		{"a stranger must not learn which services there are", stranger, 8, wire.StatusNotAuthorised},
		{"the right key for another service", known, 9, wire.StatusNotAuthorised},
		{"no service", known, 8, wire.StatusNoService},
	} {
		reply := try(tc.key, tc.service)
		if reply.Status != tc.status || reply.Reason == "" || reply.Secrets != (handshake.Secrets{}) {
			t.Errorf("%s: %v %q", tc.name, reply.Status, reply.Reason)
		}
		if srv.table.Len() != 0 {
			t.Errorf("%s: a slot was taken", tc.name)
		}
	}
	dial(t, srv, "127.0.0.1", func(c *handshake.ClientConfig) { c.Static = known })
	accept(t, srv)
	if reply := try(known, 7); reply.Status != wire.StatusBusy || reply.Code != wire.CloseLimit {
		t.Errorf("a second session of a key that may have one: %v %v %q", reply.Status, reply.Code, reply.Reason)
	}
	st := srv.Stats()
	if st.HalfOpen != 0 {
		t.Errorf("%d half-open: refused clients count", st.HalfOpen)
	}
	if st.Refused[wire.StatusNotAuthorised] != 3 || st.Refused[wire.StatusNoService] != 1 || st.Refused[wire.StatusBusy] != 1 {
		t.Errorf("refused: %v", st.Refused)
	}
	count(t, srv, RespRefused, 5)
}

// TestCapAtConfirmation has two handshakes under way where one session is
// allowed: the second client is told when it confirms.
func TestCapAtConfirmation(t *testing.T) {
	key := handshake.NewPrivateKey()
	srv := listen(t, func(c *Config) { c.Limits.KeySessions = 1 })
	var clients [2]*client
	var replies [2]*handshake.Reply
	var cfgs [2]handshake.ClientConfig
	var sockets [2]*socket
	for i := range clients {
		init, cfg := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Static = key })
		sockets[i], cfgs[i] = newSocket(t, "127.0.0.1", srv), cfg
		replies[i], _ = exchange(t, sockets[i], init)
	}
	clients[0] = newClient(t, sockets[0], cfgs[0], replies[0])
	accept(t, srv)
	clients[1] = newClient(t, sockets[1], cfgs[1], replies[1])
	if e := clients[1].closedWith(); e.Code != wire.CloseLimit || e.Text == "" {
		t.Errorf("the second client learned %+v", e)
	}
	if st := srv.Stats(); st.Opened != 1 || st.Closed != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestTableFull(t *testing.T) {
	srv := listen(t, func(c *Config) { c.TableSlots = maps.MinSlots })
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	var ids []maps.ID
	for {
		id, _, err := srv.table.Allocate(maps.KindROAM, 0)
		if errors.Is(err, maps.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	init, _ := newAttempt(t, srv, nil)
	reply, _ := exchange(t, newSocket(t, "127.0.0.1", srv), init)
	if reply.Status != wire.StatusFull || reply.Reason == "" {
		t.Errorf("a full table: %v %q", reply.Status, reply.Reason)
	}
	if st := srv.Stats(); st.TableFull != 1 || st.Refused[wire.StatusFull] != 1 {
		t.Errorf("stats %+v", st)
	}
	c.sendDatagram("still here") // no session is evicted for another
	if got := receive(t, s); got != "still here" {
		t.Errorf("the session of before: %q", got)
	}
	for _, id := range ids {
		if err := srv.table.Retire(id); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRepeatedInit checks the cache of RESPs.
func TestRepeatedInit(t *testing.T) {
	srv := listen(t, nil)
	s := newSocket(t, "127.0.0.1", srv)
	// The static key comes first, then the handshake id, then e.
	hid := make([]byte, 16)
	rand.Read(hid)
	attempt := func() (*handshake.Initiator, handshake.ClientConfig) {
		return newAttempt(t, srv, func(c *handshake.ClientConfig) {
			c.Static = handshake.NewPrivateKey()
			c.Random = io.MultiReader(bytes.NewReader(hid), rand.Reader)
		})
	}
	init, cfg := attempt()
	s.send(init.Packet())
	first := s.read(patience)
	s.send(init.Packet())
	if again := s.read(patience); first == nil || !bytes.Equal(first, again) {
		t.Errorf("a repeat got another answer:\n%x\n%x", first, again)
	}
	count(t, srv, RespRepeated, 1)
	count(t, srv, RespAccepted, 1)

	other, _ := attempt()
	s.send(other.Packet())
	s.silence("another INIT under the same handshake id")
	count(t, srv, InitConflict, 1)

	elsewhere := newSocket(t, "127.0.0.1", srv)
	elsewhere.send(init.Packet())
	if resp := elsewhere.read(patience); resp == nil || bytes.Equal(resp, first) {
		t.Errorf("the same INIT from elsewhere: %x", resp)
	}

	// When the session ends, its RESP leads nowhere and goes.
	reply, err := init.Finish(first)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s, cfg, reply)
	accept(t, srv).Close(wire.CloseDone, "")
	c.closedWith()
	s2 := &socket{t, s.conn, s.to}
	s2.send(init.Packet())
	count(t, srv, RespAccepted, 3)
}

// A garbled copy of an INIT, which anyone on the way can make, leaves nothing behind.
func TestGarbledInit(t *testing.T) {
	srv := listen(t, nil)
	init, _ := newAttempt(t, srv, nil)
	garbled := bytes.Clone(init.Packet())
	garbled[500] ^= 1
	s := newSocket(t, "127.0.0.1", srv)
	for n := range uint64(3) {
		s.send(garbled)
		count(t, srv, InitNotOpened, n+1)
	}
	if n := srv.Stats().HalfOpen; n != 0 {
		t.Errorf("%d half-open", n)
	}
	if reply, _ := exchange(t, s, init); reply.Status != wire.StatusAccepted {
		t.Errorf("the INIT that it was made from: %v", reply.Status)
	}
	count(t, srv, InitPending, 0)
}

func TestPrefixLimits(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Limits.PrefixRate, c.Limits.PrefixBurst = 1, 3 })
	try := func() *socket {
		init, _ := newAttempt(t, srv, nil)
		s := newSocket(t, "127.0.0.1", srv)
		s.send(init.Packet())
		if pkt := s.read(patience); pkt != nil && pkt[0] == wire.TypeRetry {
			_, cookie, _ := wire.ParseRetry(pkt)
			init.SetCookie(cookie)
			s.send(init.Packet())
		}
		return s
	}
	for range 3 {
		try()
	}
	count(t, srv, RespAccepted, 3)
	for range 3 { // over the limit without a cookie: RETRY, and within it with one
		try()
	}
	count(t, srv, RetrySent, 3)
	count(t, srv, RespAccepted, 6)
	try() // over both
	count(t, srv, RetrySent, 4)
	count(t, srv, PrefixLimit, 1)
	init, _ := newAttempt(t, srv, nil) // another network is not touched by it
	if _, retries := exchange(t, newSocket(t, "::1", srv), init); retries != 0 {
		t.Errorf("another network got %d RETRYs", retries)
	}

	never := listen(t, func(c *Config) { c.Cookie, c.Limits.PrefixHalfOpen = CookieNever, 1 })
	for range 2 {
		init, _ := newAttempt(t, never, nil)
		newSocket(t, "127.0.0.1", never).send(init.Packet())
	}
	count(t, never, RespAccepted, 1)
	count(t, never, PrefixLimit, 1)
}

func TestUnknownVersion(t *testing.T) {
	srv := listen(t, func(c *Config) { c.Limits.VersionRate = 1 })
	s := newSocket(t, "127.0.0.1", srv)
	pkt := make([]byte, wire.InitLen)
	wire.NewInit(pkt, wire.ID{1, 2, 3})
	binary.BigEndian.PutUint32(pkt[4:], 77)
	s.send(pkt)
	hid, list, err := wire.ParseVersions(s.read(patience))
	if err != nil || hid != (wire.ID{1, 2, 3}) || !list.Contains(wire.Version1) || list.Len() != 1 {
		t.Errorf("VERSIONS: %v %v %v", hid, list, err)
	}
	s.send(pkt)
	s.silence("a second unknown version within a second")
	count(t, srv, VersionsSent, 1)
	count(t, srv, VersionLimit, 1)
}

// TestThreatMalformed sends what nobody must answer, and looks for its reason.
func TestThreatMalformed(t *testing.T) {
	srv := listen(t, nil)
	stranger := listen(t, nil)
	init, _ := newAttempt(t, srv, nil)
	wrongServer, _ := newAttempt(t, stranger, nil)
	change := func(pkt []byte, at int, to byte) []byte {
		pkt = bytes.Clone(pkt)
		pkt[at] = to
		return pkt
	}
	data := func(id wire.ID) []byte {
		pkt := make([]byte, 100)
		wire.PutDataHeader(pkt, 1, id)
		return pkt
	}
	gone, _, err := srv.table.Allocate(maps.KindROAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unknown, _, _ := srv.table.Allocate(maps.KindROAM, 0)
	if err := srv.table.Retire(gone); err != nil {
		t.Fatal(err)
	}
	first := func(b byte) []byte { return append([]byte{b}, make([]byte, 60)...) }
	for _, tc := range []struct {
		name   string
		packet []byte
		reason Reason
	}{
		{"empty", nil, Truncated},
		{"larger than any", make([]byte, wire.MaxPacket+1), Truncated},
		{"INIT for another server", wrongServer.Packet(), MAC1},
		{"INIT too short", init.Packet()[:1199], InitMalformed},
		{"INIT too long", append(bytes.Clone(init.Packet()), 0), InitMalformed},
		{"INIT with reserved bytes", change(init.Packet(), 1, 1), InitMalformed},
		{"INIT of version 0", change(init.Packet(), 7, 0), InitMalformed},
		{"INIT that does not decrypt", change(init.Packet(), 500, init.Packet()[500]^1), InitNotOpened},
		{"RETRY", first(wire.TypeRetry), WrongDirection},
		{"RESP", first(wire.TypeResp), WrongDirection},
		{"VERSIONS", first(wire.TypeVersions), WrongDirection},
		{"reserved", first(0x0D), Grease},
		{"reserved", first(0x0E), Grease},
		{"grease", first(0x0F), Grease},
		{"below ROAM", first(0x07), UnknownProtocol},
		{"above ROAM", first(0x10), UnknownProtocol},
		{"DTLS, first", first(20), DTLS},
		{"DTLS, last", first(63), DTLS},
		{"QUIC short, first", first(64), QUIC},
		{"QUIC short, last", first(127), QUIC},
		{"between", first(128), UnknownProtocol},
		{"between", first(191), UnknownProtocol},
		{"QUIC long, first", first(192), QUIC},
		{"QUIC long, last", first(255), QUIC},
		{"DATA too short", data(wire.ID{})[:40], Malformed},
		{"DATA with a made-up id", data(wire.ID{9}), IDForged},
		{"DATA with an id of a session that is gone, too short for a reset", data(gone)[:41], IDGone},
		{"DATA with an id that leads to no session", data(unknown), UnknownID},
	} {
		s := newSocket(t, "127.0.0.1", srv)
		before := srv.Stats().Packets
		s.send(tc.packet)
		count(t, srv, tc.reason, before[tc.reason]+1)
		s.silence(tc.name)
		after := srv.Stats().Packets
		for r := range after {
			want := before[r]
			if Reason(r) == tc.reason {
				want++
			}
			if after[r] != want {
				t.Errorf("%s: %v went from %d to %d", tc.name, Reason(r), before[r], after[r])
			}
		}
	}
	if err := srv.table.Retire(unknown); err != nil {
		t.Fatal(err)
	}
}

// TestConfirmation sends the first DATA from elsewhere: it must neither confirm
// nor be used up.
func TestConfirmation(t *testing.T) {
	srv := listen(t, nil)
	init, cfg := newAttempt(t, srv, nil)
	s := newSocket(t, "127.0.0.1", srv)
	reply, _ := exchange(t, s, init)
	c := newBlockedClient(t, s, cfg, reply)
	var packet []byte
	eventually(t, "the client has made its first packet", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.sent) > 0 {
			packet = c.sent[0]
		}
		return packet != nil
	})
	elsewhere := newSocket(t, "127.0.0.1", srv)
	elsewhere.send(packet)
	elsewhere.silence("the first DATA from elsewhere")
	count(t, srv, Unconfirmed, 1)
	if st := srv.Stats(); st.Opened != 0 || st.HalfOpen != 1 {
		t.Errorf("stats %+v", st)
	}
	s.send(packet)
	accepted := accept(t, srv)
	if accepted.RemoteAddr() != s.conn.LocalAddr() {
		t.Errorf("validated %v, the client is at %v", accepted.RemoteAddr(), s.conn.LocalAddr())
	}
	if st := srv.Stats(); st.HalfOpen != 0 {
		t.Errorf("%d half-open after the confirmation", st.HalfOpen)
	}
}

// TestHalfOpenEnds leaves handshakes alone: after 10 s nothing is left of them.
func TestHalfOpenEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the 15 s that the protocol gives a half-open session")
	}
	t.Parallel()
	srv := listen(t, nil)
	var sockets []*socket
	for range 5 {
		init, _ := newAttempt(t, srv, nil)
		s := newSocket(t, "127.0.0.1", srv)
		exchange(t, s, init)
		sockets = append(sockets, s)
	}
	if st := srv.Stats(); st.HalfOpen != 5 || st.TableUsed != 5 {
		t.Errorf("at first: %d half-open, %d slots", st.HalfOpen, st.TableUsed)
	}
	time.Sleep(attemptLife)
	// The slots follow after 3 PTO, so that late packets meet silence.
	eventually(t, "nothing is left", func() bool {
		st := srv.Stats()
		return st.HalfOpen == 0 && st.TableUsed == 0 && st.Expired == 5 && srv.directory.len() == 0
	})
	for _, s := range sockets {
		s.silence("a half-open session's end")
	}
}

// TestHandshakeSurvivesLoss drops the client's first packets: it repeats them.
func TestHandshakeSurvivesLoss(t *testing.T) {
	srv := listen(t, nil)
	init, cfg := newAttempt(t, srv, nil)
	s := newSocket(t, "127.0.0.1", srv)
	reply, _ := exchange(t, s, init)
	c := newClient(t, s, cfg, reply)
	c.mu.Lock()
	c.block = true
	c.mu.Unlock()
	time.Sleep(20 * time.Millisecond)
	c.mu.Lock()
	c.block = false
	c.mu.Unlock()
	accepted := accept(t, srv) // at the client's next PING, 1 s later
	if err := accepted.SendDatagram([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := c.receive(); got != "hello" {
		t.Errorf("got %q", got)
	}
}
