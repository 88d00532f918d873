// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"github.com/dchest/siphash"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	policyAuto   = uint8(bpf.RoamRoamCookiePolicyROAM_COOKIE_AUTO)
	policyAlways = uint8(bpf.RoamRoamCookiePolicyROAM_COOKIE_ALWAYS)
	policyNever  = uint8(bpf.RoamRoamCookiePolicyROAM_COOKIE_NEVER)

	cookieAt = 24
	mac1At   = 40

	// A time in the middle of a cookie epoch.
	testTime = 1767225600 + 30
)

var (
	testMAC1Key = handshake.NewMAC1Key(handshake.PublicKey{1, 2, 3})
	testCookies = handshake.NewCookies([32]byte{4, 5, 6}, testServerID)
)

func sipKey(k [16]byte) bpf.RoamRoamSipkey {
	return bpf.RoamRoamSipkey{K0: binary.LittleEndian.Uint64(k[:8]), K1: binary.LittleEndian.Uint64(k[8:])}
}

// cookieKeys gives the data plane the keys around a time, as the control plane does.
func cookieKeys(cookies *handshake.Cookies, now uint32) (keys [4]bpf.RoamRoamCookieKey) {
	for e := now/60 - 1; e <= now/60+1; e++ {
		keys[e%4] = bpf.RoamRoamCookieKey{Key: sipKey(cookies.Key(uint64(e))), Epoch: e}
	}
	return keys
}

// setHandshake configures the keys and the policy for INITs, at testTime.
func (p *plane) setHandshake(policy uint8) {
	p.t.Helper()
	p.configure(func(c *bpf.RoamRoamConfig) {
		c.Mac1Keys[0] = sipKey(testMAC1Key)
		c.CookieKeys = cookieKeys(testCookies, testTime)
		c.CookiePolicy = policy
	})
	p.setUnix(testTime)
}

// initPacket is an INIT whose Noise part is noise, which the data plane does not look at.
func initPacket() []byte {
	b := make([]byte, 1200)
	b[0] = wire.TypeInit
	binary.BigEndian.PutUint32(b[4:], 1)
	for i := 8; i < cookieAt; i++ {
		b[i] = byte(i * 7)
	}
	for i := 48; i < len(b); i++ {
		b[i] = byte(i*5 + i>>8)
	}
	return signed(b)
}

// signed puts the right mac1 into an INIT.
func signed(b []byte) []byte {
	sum := testMAC1Key.Sum(b)
	copy(b[mac1At:], sum[:])
	return b
}

func handshakeID(b []byte) wire.ID { return wire.ID(b[8:cookieAt]) }

// withCookie puts a cookie that Go made into an INIT.
func withCookie(b []byte, made uint32, src, dst netip.AddrPort) []byte {
	b = bytes.Clone(b)
	c := testCookies.Make(made, handshakeID(b), src, dst)
	copy(b[cookieAt:], c[:])
	return b
}

func TestInitMAC1(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyNever)
	old := handshake.NewMAC1Key(handshake.PublicKey{9})
	good := initPacket()
	byOldKey := bytes.Clone(good)
	sum := old.Sum(byOldKey)
	copy(byOldKey[mac1At:], sum[:])
	run := func(payload []byte) bpf.RoamRoamReason {
		return p.run(frame{src: client4, dst: server4, payload: payload}.bytes()).reason
	}

	expect := func(what string, got, want bpf.RoamRoamReason) {
		t.Helper()
		if got != want {
			t.Errorf("%s: reason %d, want %d", what, got, want)
		}
	}
	expect("right key", run(good), reasonInit)
	expect("old key before it is set", run(byOldKey), reasonMAC1)
	p.configure(func(c *bpf.RoamRoamConfig) { c.Mac1Keys[1] = sipKey(old) })
	expect("old key", run(byOldKey), reasonInit)
	expect("right key beside the old one", run(good), reasonInit)
	p.configure(func(c *bpf.RoamRoamConfig) { c.Mac1Keys[0], c.Mac1Keys[1] = bpf.RoamRoamSipkey{}, sipKey(old) })
	expect("right key withdrawn", run(good), reasonMAC1)
	expect("second place alone", run(byOldKey), reasonInit)

	// No key at all: an INIT under the zero key must not pass.
	p.configure(func(c *bpf.RoamRoamConfig) { c.Mac1Keys = [2]bpf.RoamRoamSipkey{} })
	zero := bytes.Clone(good)
	var none handshake.MAC1Key
	sum = none.Sum(zero)
	copy(zero[mac1At:], sum[:])
	expect("zero key", run(zero), reasonMAC1)
}

// Every byte of an INIT up to the ephemeral key is under mac1, except the
// cookie; those behind it are Noise's to protect.
func TestInitMAC1Covers(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyNever)
	for i := range 96 {
		b := initPacket()
		b[i] ^= 0x40
		want := reasonMAC1
		switch {
		case i == 0:
			want = reasonQUIC // 0x48
		case i < 4:
			want = reasonInitMalformed
		case i < 8:
			want = reasonInitVersion
		case i >= cookieAt && i < mac1At, i >= 80:
			want = reasonInit
		}
		got := p.run(frame{src: client4, dst: server4, payload: b}.bytes()).reason
		if i == 0 { // as QUIC its made-up id is forged
			want = reasonForged
		}
		if got != want {
			t.Errorf("byte %d changed: reason %d, want %d", i, got, want)
		}
	}
}

func TestMAC1AgainstGo(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyNever)
	r := newRand(t)
	for range 1000 {
		key := handshake.MAC1Key(randomBytes(r, 16))
		p.configure(func(c *bpf.RoamRoamConfig) { c.Mac1Keys[0] = sipKey(key) })
		b := randomBytes(r, 1200)
		copy(b, []byte{wire.TypeInit, 0, 0, 0, 0, 0, 0, 1})
		sum := key.Sum(b)
		copy(b[mac1At:], sum[:])
		f := frame{src: client4, dst: server4, payload: b}
		if got := p.run(f.bytes()).reason; got != reasonInit {
			t.Fatalf("mac1 by Go: reason %d; packet %x", got, b[:80])
		}
		b[mac1At+r.IntN(8)] ^= 1 << r.IntN(8)
		if got := p.run(f.bytes()).reason; got != reasonMAC1 {
			t.Fatalf("mac1 with a wrong bit: reason %d; packet %x", got, b[:80])
		}
	}
}

// randomAddr draws an address of the same family.
func randomAddr(r interface{ Uint32() uint32 }, like netip.AddrPort) netip.AddrPort {
	b := like.Addr().AsSlice()
	for i := 1; i < len(b); i++ { // the first byte keeps it unicast
		b[i] = byte(r.Uint32())
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(r.Uint32())|1)
}

// Go's cookies are good in XDP, and XDP's in Go.
func TestCookieAgainstGo(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyAlways)
	r := newRand(t)
	for i := range 1000 {
		src, dst := randomAddr(r, client4), server4
		if i%2 == 1 {
			src, dst = randomAddr(r, client6), server6
		}
		secret := [32]byte(randomBytes(r, 32))
		serverID := uint16(r.Uint32())
		cookies := handshake.NewCookies(secret, serverID)
		now := uint32(1<<30 + r.Uint32()>>2)
		p.configure(func(c *bpf.RoamRoamConfig) {
			c.CookieKeys, c.ServerId = cookieKeys(cookies, now), serverID
		})
		b := initPacket()
		copy(b[8:], randomBytes(r, 16))
		signed(b)
		got := p.runAt(now, frame{src: src, dst: dst, payload: b}.bytes())
		if got.reason != reasonRetry {
			t.Fatalf("without a cookie: reason %d, want a RETRY", got.reason)
		}
		made := wire.Cookie(got.out[len(got.out)-16:])
		if want := cookies.Make(now, handshakeID(b), src, dst); made != want {
			t.Fatalf("cookie %x by XDP, %x by Go", made, want)
		}
		if !cookies.Valid(now, made, handshakeID(b), src, dst) {
			t.Fatalf("Go refuses XDP's cookie %x", made)
		}
		copy(b[cookieAt:], made[:])
		if got := p.run(frame{src: src, dst: dst, payload: b}.bytes()).reason; got != reasonInitCookie {
			t.Fatalf("with the cookie: reason %d, want %d", got, reasonInitCookie)
		}
		b[cookieAt+r.IntN(16)] ^= 1 << r.IntN(8)
		if got := p.run(frame{src: src, dst: dst, payload: b}.bytes()).reason; got != reasonRetry {
			t.Fatalf("with a wrong bit: reason %d, want a RETRY", got)
		}
	}
}

func TestCookieLifetime(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyAlways)
	const epochStart = testTime / 60 * 60
	otherPort := netip.AddrPortFrom(client4.Addr(), client4.Port()+1)
	otherAddr := netip.AddrPortFrom(client4.Addr().Next(), client4.Port())
	otherServer := netip.AddrPortFrom(server4.Addr().Next(), server4.Port())
	p.listen(otherServer, 0, 0)
	for _, tt := range []struct {
		name      string
		made, now uint32
		src, dst  netip.AddrPort
		want      bpf.RoamRoamReason
	}{
		{"fresh", testTime, testTime, client4, server4, reasonInitCookie},
		{"9 s", testTime, testTime + 9, client4, server4, reasonInitCookie},
		{"10 s", testTime, testTime + 10, client4, server4, reasonInitCookie},
		{"11 s", testTime, testTime + 11, client4, server4, reasonRetry},
		{"an hour", testTime - 3600, testTime, client4, server4, reasonRetry},
		{"2 s ahead", testTime + 2, testTime, client4, server4, reasonInitCookie},
		{"3 s ahead", testTime + 3, testTime, client4, server4, reasonRetry},
		{"of the epoch before", epochStart - 1, epochStart + 5, client4, server4, reasonInitCookie},
		{"of the epoch before, 11 s", epochStart - 1, epochStart + 10, client4, server4, reasonRetry},
		{"ahead into the next epoch", epochStart + 60, epochStart + 59, client4, server4, reasonInitCookie},
		{"two epochs on", testTime - 120, testTime, client4, server4, reasonRetry},
		{"from another port", testTime, testTime, otherPort, server4, reasonRetry},
		{"from another address", testTime, testTime, otherAddr, server4, reasonRetry},
		{"to another address", testTime, testTime, client4, otherServer, reasonRetry},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.on(t)
			p.configure(func(c *bpf.RoamRoamConfig) { c.CookieKeys = cookieKeys(testCookies, tt.now) })
			b := withCookie(initPacket(), tt.made, client4, server4)
			if got := p.runAt(tt.now, frame{src: tt.src, dst: tt.dst, payload: b}.bytes()).reason; got != tt.want {
				t.Errorf("reason %d, want %d", got, tt.want)
			}
		})
	}
}

// A cookie of another handshake id, server id, format or key id is no cookie.
func TestCookieBelongs(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyAlways)
	good := withCookie(initPacket(), testTime, client4, server4)
	for _, tt := range []struct {
		name   string
		change func(b []byte)
	}{
		{"handshake id", func(b []byte) { b[8] ^= 1; signed(b) }},
		{"format", func(b []byte) { b[cookieAt] = 2; rehash(b) }},
		{"key id", func(b []byte) { b[cookieAt+1]++; rehash(b) }},
		{"server id", func(b []byte) { b[cookieAt+3]++; rehash(b) }},
		{"hash", func(b []byte) { b[cookieAt+15] ^= 0x80 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, b := p.on(t), bytes.Clone(good)
			tt.change(b)
			if got := p.run(frame{src: client4, dst: server4, payload: b}.bytes()).reason; got != reasonRetry {
				t.Errorf("reason %d, want a RETRY", got)
			}
		})
	}
}

// rehash makes the hash of a changed cookie right under the key of its time,
// so that only the change can be what is wrong with it.
func rehash(b []byte) {
	key := testCookies.Key(testTime / 60)
	k := sipKey(key)
	src, dst := client4.Addr().As16(), server4.Addr().As16()
	in := append([]byte{}, b[8:cookieAt+8]...)
	in = append(append(in, src[:]...), dst[:]...)
	in = binary.BigEndian.AppendUint16(in, client4.Port())
	in = binary.BigEndian.AppendUint16(in, server4.Port())
	binary.LittleEndian.PutUint64(b[cookieAt+8:], siphash.Hash(k.K0, k.K1, in))
}

// Where the control plane has stopped giving keys, what needs one goes to it.
func TestCookieWithoutKey(t *testing.T) {
	p := newPlane(t)
	p.setHandshake(policyAlways)
	p.configure(func(c *bpf.RoamRoamConfig) { c.CookieKeys = [4]bpf.RoamRoamCookieKey{} })
	if got := p.run(frame{src: client4, dst: server4, payload: initPacket()}.bytes()).reason; got != reasonInitSlow {
		t.Errorf("reason %d, want %d", got, reasonInitSlow)
	}
}

func TestCookiePolicy(t *testing.T) {
	plain := frame{src: client4, dst: server4, payload: initPacket()}.bytes()
	cookied := frame{src: client4, dst: server4, payload: withCookie(initPacket(), testTime, client4, server4)}.bytes()
	for _, tt := range []struct {
		name   string
		policy uint8
		burst  uint32
		want   []bpf.RoamRoamReason // of INITs without a cookie, in turn
	}{
		{"never", policyNever, 0, []bpf.RoamRoamReason{reasonInit, reasonInit, reasonInit}},
		{"always", policyAlways, plenty, []bpf.RoamRoamReason{reasonRetry, reasonRetry, reasonRetry}},
		{"auto", policyAuto, 2, []bpf.RoamRoamReason{reasonInit, reasonInit, reasonRetry, reasonRetry}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlane(t)
			p.setHandshake(tt.policy)
			p.configure(func(c *bpf.RoamRoamConfig) { c.Limits.UncookiedBurst = tt.burst })
			for i, want := range tt.want {
				if got := p.run(plain).reason; got != want {
					t.Errorf("INIT %d: reason %d, want %d", i, got, want)
				}
				// One with a cookie neither needs that bucket nor takes from it.
				if got := p.run(cookied).reason; got != reasonInitCookie {
					t.Errorf("INIT %d with a cookie: reason %d, want %d", i, got, reasonInitCookie)
				}
			}
		})
	}
}

// The INIT and the cookie of the protocol's vectors, made by another implementation.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Handshake struct{ Init, Retry string }
		MAC1      struct{ Key string }
		Cookie    []struct {
			Cookie, Key, Src, Dst string
			ServerID              uint16 `json:"server_id"`
			Time, Epoch           uint32
		}
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	p := newPlane(t)
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) == 0 {
			t.Fatalf("vectors: %q: %v", s, err)
		}
		return b
	}
	p.setHandshake(policyAlways)
	p.configure(func(c *bpf.RoamRoamConfig) { c.Mac1Keys[0] = sipKey([16]byte(unhex(v.MAC1.Key))) })
	for _, c := range v.Cookie {
		src, dst := netip.MustParseAddrPort(c.Src), netip.MustParseAddrPort(c.Dst)
		p.configure(func(cfg *bpf.RoamRoamConfig) {
			cfg.ServerId = c.ServerID
			cfg.CookieKeys[c.Epoch%4] = bpf.RoamRoamCookieKey{Key: sipKey([16]byte(unhex(c.Key))), Epoch: c.Epoch}
		})
		got := p.runAt(c.Time, frame{src: src, dst: dst, payload: unhex(v.Handshake.Init)}.bytes())
		if got.reason != reasonRetry {
			t.Fatalf("%s at %d: reason %d, want a RETRY", c.Src, c.Time, got.reason)
		}
		payload := got.out[len(got.out)-40:]
		if cookie := hex.EncodeToString(payload[cookieAt:]); cookie != c.Cookie {
			t.Errorf("%s at %d: cookie %s, want %s", c.Src, c.Time, cookie, c.Cookie)
		}
		if c.Cookie == v.Cookie[0].Cookie && hex.EncodeToString(payload) != v.Handshake.Retry {
			t.Errorf("RETRY %x, want %s", payload, v.Handshake.Retry)
		}
	}
}
