// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

var (
	serverA = netip.MustParseAddrPort("192.0.2.1:7626")
	serverB = netip.MustParseAddrPort("[2001:db8::1]:7626")
)

// testAttempt is an attempt with a server's side to answer it.
type testAttempt struct {
	attempt
	*testing.T
	responder *handshake.Responder
	now       time.Duration
}

func newTestAttempt(t *testing.T, remotes ...netip.AddrPort) *testAttempt {
	t.Helper()
	key := handshake.NewPrivateKey()
	ids := [3]handshake.NewID{}
	for i := range ids {
		id, reset, _ := randomIDs{}.Issue()
		ids[i] = handshake.NewID{Seq: uint32(i), ID: id, Reset: reset}
	}
	i, err := handshake.NewInitiator(handshake.ClientConfig{Server: key.Public(), NewIDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	r, err := handshake.NewResponder(key, handshake.PSK{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &testAttempt{attempt: attempt{initiator: i}, T: t, responder: r}
	for n, remote := range remotes {
		a.targets = append(a.targets, target{socket: uint32(n), remote: remote})
	}
	a.plan = turns(len(a.targets))
	return a
}

// until runs the clock to a time and returns what was sent, by time.
func (a *testAttempt) until(end time.Duration) (sent []time.Duration, to []netip.AddrPort, err error) {
	for {
		next := a.deadline()
		if next > end {
			a.now = end
			return sent, to, nil
		}
		a.now = max(a.now, next)
		t, err := a.tick(a.now)
		if err != nil {
			return sent, to, err
		}
		if t != nil {
			sent, to = append(sent, a.now), append(to, t.remote)
		}
	}
}

func (a *testAttempt) retry(c wire.Cookie) []byte {
	return wire.AppendRetry(nil, a.initiator.HandshakeID(), c)
}

func (a *testAttempt) resp() []byte {
	a.Helper()
	q, err := a.responder.Open(a.initiator.Packet())
	if err != nil {
		a.Fatal(err)
	}
	id, reset, _ := randomIDs{}.Issue()
	resp, _, err := q.Accept(handshake.Acceptance{NewID: handshake.NewID{ID: id, Reset: reset}})
	if err != nil {
		a.Fatal(err)
	}
	return resp
}

// quiet checks that a packet changes nothing and is not answered.
func (a *testAttempt) quiet(what string, socket uint32, from netip.AddrPort, pkt []byte) {
	a.Helper()
	deadline := a.deadline()
	target, reply, err := a.receive(a.now, socket, from, pkt)
	if target != nil || reply != nil || err != nil || a.deadline() != deadline {
		a.Errorf("%s: sends %v, reply %v, error %v, deadline %v was %v", what, target, reply, err, a.deadline(), deadline)
	}
}

func TestInitIsRepeatedAtItsTimes(t *testing.T) {
	a := newTestAttempt(t, serverA)
	before := bytes.Clone(a.initiator.Packet())
	sent, _, err := a.until(time.Minute)
	want := []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}
	if !slices.Equal(sent, want) {
		t.Errorf("sent at %v, want %v", sent, want)
	}
	if !bytes.Equal(a.packet(&a.targets[0]), before) {
		t.Error("the repeats differ from the first INIT")
	}
	var none *NoAnswerError
	if !errors.As(err, &none) || !errors.Is(err, ErrNoAnswer) || none.Inits != 5 || none.After != giveUpAt || none.Retried || none.Unopened {
		t.Fatalf("%#v", err)
	}
	for _, word := range []string{serverA.String(), "port", "firewall", "public key"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error says nothing of %q: %v", word, err)
		}
	}
}

func TestServersTakeTurns(t *testing.T) {
	a := newTestAttempt(t, serverA, serverB)
	_, to, _ := a.until(5 * time.Second)
	if want := []netip.AddrPort{serverA, serverB, serverA, serverB}; !slices.Equal(to, want) {
		t.Errorf("sent to %v, want %v", to, want)
	}
}

// A session that is opened again does not wait a second for each address that is
// dead, and a target that shows signs of life is next.
func TestEagerTurns(t *testing.T) {
	a := newTestAttempt(t, serverA, serverB, serverA)
	a.plan = eagerTurns(3)
	sent, to, _ := a.until(600 * time.Millisecond)
	if want := []time.Duration{0, headStart, 2 * headStart}; !slices.Equal(sent, want) {
		t.Errorf("sent at %v, want %v", sent, want)
	}
	if want := []netip.AddrPort{serverA, serverB, serverA}; !slices.Equal(to, want) {
		t.Errorf("sent to %v, want %v", to, want)
	}
	a.hurry(a.now, 1)
	if sent, to, _ = a.until(a.now); len(sent) != 1 || to[0] != serverB {
		t.Errorf("in a hurry: sent to %v at %v", to, sent)
	}
	if sent, _, _ = a.until(10 * time.Second); !slices.Equal(sent, initAt[1:]) {
		t.Errorf("repeats at %v, want %v", sent, initAt[1:])
	}
	// With its plan used up there is still a hurry.
	a.hurry(a.now, 2)
	if sent, _, err := a.until(a.now); len(sent) != 1 || err != nil {
		t.Errorf("after the plan: sent at %v, %v", sent, err)
	}
	if one := eagerTurns(1); len(one) != len(initAt) || one[4].at != initAt[4] {
		t.Errorf("one target: %v", one)
	}
}

func TestRetryRules(t *testing.T) {
	a := newTestAttempt(t, serverA, serverB)
	plain := bytes.Clone(a.initiator.Packet())
	cookie := wire.Cookie{1, 2, 3}
	a.quiet("RETRY before any INIT", 0, serverA, a.retry(cookie))
	a.until(0)
	a.now = 50 * time.Millisecond
	a.quiet("from an address that nothing was sent to", 0, netip.MustParseAddrPort("192.0.2.1:7627"), a.retry(cookie))
	a.quiet("to a socket that nothing was sent from", 1, serverA, a.retry(cookie))
	a.quiet("from the other server, whose turn has not come", 1, serverB, a.retry(cookie))
	a.quiet("for another attempt", 0, serverA, wire.AppendRetry(nil, wire.ID{1}, cookie))
	a.quiet("cut off", 0, serverA, a.retry(cookie)[:39])
	a.quiet("without a cookie", 0, serverA, a.retry(wire.Cookie{}))

	target, reply, err := a.receive(a.now, 0, serverA, a.retry(cookie))
	if target == nil || reply != nil || err != nil || target.remote != serverA {
		t.Fatalf("RETRY: %v %v %v", target, reply, err)
	}
	pkt := wire.Init(bytes.Clone(a.packet(target)))
	if pkt.Cookie() != cookie {
		t.Errorf("INIT carries %v", pkt.Cookie())
	}
	pkt.SetCookie(wire.Cookie{})
	if !bytes.Equal(pkt, plain) {
		t.Error("INIT changed beyond its cookie")
	}
	a.quiet("a second RETRY for the same INIT", 0, serverA, a.retry(wire.Cookie{9}))
	if got := wire.Init(a.packet(&a.targets[1])).Cookie(); !got.IsZero() {
		t.Errorf("the cookie for one address goes to the other: %v", got)
	}
	// After the next transmission another RETRY is due, and its cookie replaces the first.
	a.until(2 * time.Second)
	if target, _, _ := a.receive(a.now, 0, serverA, a.retry(wire.Cookie{9})); target == nil || wire.Init(a.packet(target)).Cookie() != (wire.Cookie{9}) {
		t.Errorf("RETRY for the repeat: %v", target)
	}
}

func TestOldCookieIsLeftOut(t *testing.T) {
	for _, tc := range []struct {
		retryAt time.Duration
		kept    bool
	}{{-1, false}, {100 * time.Millisecond, true}, {1500 * time.Millisecond, true}} {
		a := newTestAttempt(t, serverA)
		a.until(max(tc.retryAt, 0))
		if tc.retryAt >= 0 {
			a.receive(tc.retryAt, 0, serverA, a.retry(wire.Cookie{7}))
		}
		a.until(8 * time.Second)
		if got := wire.Init(a.packet(&a.targets[0])).Cookie(); got.IsZero() == tc.kept {
			t.Errorf("cookie of %v: at 8 s it is %v", tc.retryAt, got)
		}
	}
	// 8 s is the last repeat, so an older cookie is only seen with a clock that was
	// late.
	a := newTestAttempt(t, serverA)
	a.until(0)
	a.receive(0, 0, serverA, a.retry(wire.Cookie{7}))
	a.sent = len(a.plan) - 1
	target, err := a.tick(8*time.Second + time.Millisecond)
	if err != nil || target == nil || !wire.Init(a.packet(target)).Cookie().IsZero() {
		t.Errorf("a cookie older than 8 s is repeated: %v %v", target, err)
	}
}

func TestForgedRespThenTheRealOne(t *testing.T) {
	a := newTestAttempt(t, serverA)
	a.until(0)
	resp := a.resp()
	forged := bytes.Clone(resp)
	clear(forged[24:56]) // an e of low order
	a.quiet("forged RESP", 0, serverA, forged)
	a.quiet("RESP from elsewhere", 0, serverB, resp)
	_, reply, err := a.receive(a.now, 0, serverA, resp)
	if err != nil || reply == nil || reply.Status != wire.StatusAccepted {
		t.Errorf("the real one: %v %v", reply, err)
	}
}

func TestVersionsRules(t *testing.T) {
	list := func(a *testAttempt, v ...uint32) []byte {
		return wire.AppendVersionsPacket(nil, a.initiator.HandshakeID(), v)
	}
	a := newTestAttempt(t, serverA)
	a.until(0)
	a.now = 100 * time.Millisecond
	a.quiet("a list with our version", 0, serverA, list(a, 1, 2))
	a.quiet("an empty list", 0, serverA, list(a))
	a.quiet("for another attempt", 0, serverA, wire.AppendVersionsPacket(nil, wire.ID{1}, []uint32{2}))
	a.quiet("from elsewhere", 0, serverB, list(a, 2))
	if _, _, err := a.receive(a.now, 0, serverA, list(a, 2, 3)); err != nil {
		t.Fatalf("believed at once: %v", err)
	}
	_, _, err := a.until(time.Minute)
	var v *VersionError
	if !errors.As(err, &v) || !slices.Equal(v.Versions, []uint32{2, 3}) || v.Server != serverA || a.now != 1100*time.Millisecond {
		t.Errorf("at %v: %v", a.now, err)
	}
	// A RESP proves it a forgery.
	a = newTestAttempt(t, serverA)
	a.until(0)
	a.receive(100*time.Millisecond, 0, serverA, list(a, 2))
	if _, reply, err := a.receive(900*time.Millisecond, 0, serverA, a.resp()); reply == nil || err != nil {
		t.Errorf("RESP after a forged VERSIONS: %v %v", reply, err)
	}
}

func TestWhatCameTellsWhatToCheck(t *testing.T) {
	a := newTestAttempt(t, serverA)
	a.until(0)
	a.receive(0, 0, serverA, a.retry(wire.Cookie{1}))
	_, _, err := a.until(time.Minute)
	if !strings.Contains(err.Error(), "cookie") || strings.Contains(err.Error(), "check the address") {
		t.Errorf("after a RETRY: %v", err)
	}
	a = newTestAttempt(t, serverA)
	a.until(0)
	resp := a.resp()
	resp[len(resp)-1] ^= 1
	a.receive(0, 0, serverA, resp)
	if _, _, err = a.until(time.Minute); !strings.Contains(err.Error(), "preshared key") {
		t.Errorf("after a RESP that does not open: %v", err)
	}
}

// FuzzAttempt gives arbitrary packets to an attempt: none may end it, and none
// but a RETRY may be answered, at most once for each INIT.
func FuzzAttempt(f *testing.F) {
	f.Add([]byte{wire.TypeRetry}, true)
	f.Add(wire.AppendRetry(nil, wire.ID{}, wire.Cookie{1}), true)
	f.Add(wire.AppendVersionsPacket(nil, wire.ID{}, []uint32{2}), true)
	f.Add(append(wire.AppendRespHeader(nil, wire.ID{}), make([]byte, 100)...), false)
	f.Fuzz(func(t *testing.T, pkt []byte, ours bool) {
		a := newTestAttempt(t, serverA)
		a.until(0)
		if hid := a.initiator.HandshakeID(); ours && len(pkt) >= 24 {
			pkt = slices.Concat(pkt[:8], hid[:], pkt[24:])
		}
		answered := 0
		for range 3 {
			target, reply, err := a.receive(a.now, 0, serverA, pkt)
			if reply != nil || err != nil {
				t.Fatalf("%x ended the attempt: %v %v", pkt, reply, err)
			}
			if target != nil {
				answered++
			}
		}
		if answered > 1 || answered == 1 && binary.BigEndian.Uint32(pkt) != uint32(wire.TypeRetry)<<24 {
			t.Fatalf("%x was answered %d times", pkt, answered)
		}
		if _, reply, err := a.receive(a.now, 0, serverA, a.resp()); reply == nil || err != nil {
			t.Fatalf("the real RESP does not open after %x: %v", pkt, err)
		}
	})
}
