// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flynn/noise"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func testIDs() [3]NewID {
	return [3]NewID{{0, wire.ID{1}, wire.Token{11}}, {1, wire.ID{2}, wire.Token{12}}, {2, wire.ID{3}, wire.Token{13}}}
}

func testAcceptance() Acceptance {
	return Acceptance{
		Params:   Params{time.Hour, 1500},
		NewID:    NewID{0, wire.ID{9}, wire.Token{19}},
		Observed: netip.MustParseAddrPort("192.0.2.1:1"),
	}
}

func newPair(t testing.TB, mend func(*ClientConfig)) (*Initiator, *Responder) {
	t.Helper()
	server := NewPrivateKey()
	cfg := ClientConfig{Server: server.Public(), Service: 22, Params: Params{time.Minute, 9000}, NewIDs: testIDs()}
	if mend != nil {
		mend(&cfg)
	}
	i, err := NewInitiator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewResponder(server, PSK{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return i, r
}

func TestHandshake(t *testing.T) {
	static := NewPrivateKey()
	i, r := newPair(t, func(c *ClientConfig) { c.Static = static })
	q, err := r.Open(i.Packet())
	if err != nil {
		t.Fatal(err)
	}
	if q.Client != static.Public() || q.Service != 22 || q.Params != (Params{time.Minute, 9000}) || q.NewIDs != testIDs() {
		t.Errorf("server reads %+v", q)
	}
	resp, secrets, err := q.Accept(testAcceptance())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := q.Accept(testAcceptance()); err == nil {
		t.Error("a request was answered twice: one Noise state must not make two messages")
	}
	reply, err := i.Finish(resp)
	if err != nil {
		t.Fatal(err)
	}
	if reply.Secrets != secrets || secrets.C2S == secrets.S2C || secrets.C2S == [32]byte{} {
		t.Error("the sides do not agree on two secrets")
	}
	if reply.Addrs != nil || !slices.Equal(reply.Versions, []uint32{wire.Version1}) {
		t.Errorf("client reads %+v", reply)
	}
}

func TestAnonymousClientsDiffer(t *testing.T) {
	var keys [2]PublicKey
	for n := range keys {
		i, r := newPair(t, nil)
		q, err := r.Open(i.Packet())
		if err != nil {
			t.Fatal(err)
		}
		keys[n] = q.Client
	}
	if keys[0] == keys[1] {
		t.Error("two clients without identity have the same key")
	}
}

// Forged RESPs, whatever is wrong with them, leave the attempt as it was.
func TestFinishSurvivesForgeries(t *testing.T) {
	i, r := newPair(t, nil)
	before := bytes.Clone(i.Packet())
	q, err := r.Open(i.Packet())
	if err != nil {
		t.Fatal(err)
	}
	resp, secrets, err := q.Accept(testAcceptance())
	if err != nil {
		t.Fatal(err)
	}
	mended := func(mend func(b []byte)) []byte {
		b := bytes.Clone(resp)
		mend(b)
		return b
	}
	const e = 24 // where the Noise e is
	for name, forged := range map[string][]byte{
		"empty":              nil,
		"cut off":            resp[:len(resp)-1],
		"shortest":           resp[:wire.MinResp],
		"another type":       i.Packet(),
		"another handshake":  mended(func(b []byte) { b[8] ^= 1 }),
		"another version":    mended(func(b []byte) { b[7] = 2 }),
		"e is zero":          mended(func(b []byte) { clear(b[e : e+32]) }),
		"e is one":           mended(func(b []byte) { clear(b[e : e+32]); b[e] = 1 }),
		"e is another point": mended(func(b []byte) { p := NewPrivateKey().Public(); copy(b[e:], p[:]) }),
		"payload changed":    mended(func(b []byte) { b[e+33] ^= 1 }),
		"tag changed":        mended(func(b []byte) { b[len(b)-1] ^= 1 }),
	} {
		if _, err := i.Finish(forged); !errors.Is(err, ErrNotOpened) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(i.Packet(), before) {
			t.Fatalf("%s: INIT changed", name)
		}
	}
	reply, err := i.Finish(resp)
	if err != nil || reply.Secrets != secrets {
		t.Errorf("the real RESP after the forgeries: %v", err)
	}
}

// A wrong preshared key shows only as a RESP that does not open. A server that has
// none for the client can still say no, and never yes.
func TestPSKOfClient(t *testing.T) {
	one, other := PSK{1}, PSK{2}
	for name, c := range map[string]struct {
		client, server PSK
		accept, refuse error
	}{
		"none":              {},
		"the same":          {client: one, server: one},
		"another":           {client: one, server: other, accept: ErrNotOpened, refuse: ErrNotOpened},
		"the client's only": {client: one, accept: ErrNoPSK},
		"the server's only": {server: one, accept: ErrNotOpened, refuse: ErrNotOpened},
	} {
		i, r := newPair(t, func(cfg *ClientConfig) { cfg.PSK = c.client })
		open := func() *Request {
			q, err := r.Open(i.Packet())
			if err != nil {
				t.Fatal(err)
			}
			if err := q.SetPSK(c.server); err != nil {
				t.Fatal(err)
			}
			return q
		}
		resp, secrets, err := open().Accept(testAcceptance())
		if err != nil {
			t.Fatal(err)
		}
		reply, err := i.Finish(resp)
		if !errors.Is(err, c.accept) || err == nil && reply.Secrets != secrets {
			t.Errorf("%s: accepted: %v, want %v", name, err, c.accept)
		}
		if resp, err = open().Refuse(wire.StatusNotAuthorised, wire.CloseNotAuthorised, "no"); err != nil {
			t.Fatal(err)
		}
		reply, err = i.Finish(resp)
		if !errors.Is(err, c.refuse) || err == nil && (reply.Status != wire.StatusNotAuthorised || reply.Reason != "no" || reply.Secrets != (Secrets{})) {
			t.Errorf("%s: refused: %+v %v, want %v", name, reply, err, c.refuse)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	i, r := newPair(t, nil)
	mended := func(mend func(b wire.Init)) []byte {
		b := bytes.Clone(i.Packet())
		mend(b)
		return b
	}
	other, _ := newPair(t, nil)
	for name, pkt := range map[string][]byte{
		"empty":               nil,
		"short":               i.Packet()[:wire.InitLen-1],
		"for another server":  other.Packet(),
		"header changed":      mended(func(b wire.Init) { b[8] ^= 1 }),
		"e is zero":           mended(func(b wire.Init) { clear(b.Noise()[:32]) }),
		"static changed":      mended(func(b wire.Init) { b.Noise()[40] ^= 1 }),
		"payload changed":     mended(func(b wire.Init) { b.Noise()[200] ^= 1 }),
		"tag changed":         mended(func(b wire.Init) { b[wire.InitLen-1] ^= 1 }),
		"of a later version":  mended(func(b wire.Init) { b[7] = 2 }),
		"reserved byte is on": mended(func(b wire.Init) { b[1] = 1 }),
	} {
		if _, err := r.Open(pkt); !errors.Is(err, ErrNotOpened) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The cookie is outside of what Noise covers, and mac1 is the caller's.
	q, err := r.Open(mended(func(b wire.Init) { b.SetCookie(wire.Cookie{1}); b.SetMAC1([8]byte{}) }))
	if err != nil || q.HandshakeID != i.HandshakeID() {
		t.Errorf("cookie and mac1 changed: %v", err)
	}
}

// A client whose static key is of low order could make its identity one that
// everybody has.
func TestLowOrderClientKey(t *testing.T) {
	i, r := newPair(t, nil)
	// The INIT of a client that sends a zero static key, which flynn/noise
	// encrypts without a look at it.
	i.cfg.StaticKeypair.Public = make([]byte, 32)
	_, message, err := i.start(PSK{})
	if err != nil {
		t.Fatal(err)
	}
	copy(i.packet.Noise(), message)
	if _, err := r.Open(i.Packet()); !errors.Is(err, ErrNotOpened) {
		t.Errorf("got %v", err)
	}
}

func TestUnusableKeys(t *testing.T) {
	if _, err := NewInitiator(ClientConfig{}); !errors.Is(err, ErrBadKey) {
		t.Errorf("no server key: %v", err)
	}
	if _, err := NewInitiator(ClientConfig{Server: PublicKey{1}}); !errors.Is(err, ErrBadKey) {
		t.Errorf("server key of low order: %v", err)
	}
	if _, err := NewResponder(PrivateKey{}, PSK{}, nil); !errors.Is(err, ErrBadKey) {
		t.Errorf("no private key: %v", err)
	}
	noRandom := ClientConfig{Server: NewPrivateKey().Public(), Random: bytes.NewReader(make([]byte, 50))}
	if _, err := NewInitiator(noRandom); err == nil {
		t.Error("the random source ran dry unnoticed")
	}
}

func TestInitPayloads(t *testing.T) {
	good := initPayload{service: 1, params: Params{time.Second, 1}, newIDs: testIDs()}
	ids := good.newIDs
	header := appendPayloadHeader(nil, 1)
	params := appendParams(nil, good.params)
	newID := func(n NewID) []byte { return wire.AppendNewID(nil, n.Seq, n.ID, n.Reset) }
	three := bytes.Join([][]byte{newID(ids[2]), newID(ids[0]), newID(ids[1])}, nil)
	for name, tc := range map[string]struct {
		payload []byte
		ok      bool
	}{
		"in any order, extension": {bytes.Join([][]byte{header, three, {0x55, 0, 1, 9}, params, {0, 0}}, nil), true},
		"empty":                   {nil, false},
		"header alone":            {header, false},
		"no PARAMS":               {slices.Concat(header, three), false},
		"PARAMS twice":            {slices.Concat(header, params, params, three), false},
		"two NEW_IDs":             {slices.Concat(header, params, newID(ids[0]), newID(ids[1])), false},
		"seq 0 twice":             {slices.Concat(header, params, three, newID(ids[0])), false},
		"seq 3":                   {slices.Concat(header, params, three, newID(NewID{Seq: 3})), false},
		"same id twice":           {slices.Concat(header, params, newID(ids[0]), newID(ids[1]), newID(NewID{Seq: 2, ID: ids[0].ID})), false},
		"a DATAGRAM":              {slices.Concat(header, params, three, wire.AppendDatagram(nil, []byte("early"))), false},
		"an unknown frame":        {slices.Concat(header, params, three, []byte{0x3f}), false},
		"cut off":                 {slices.Concat(header, params, three)[:100], false},
	} {
		p, err := parseInitPayload(tc.payload)
		if tc.ok && (err != nil || p != good) || !tc.ok && !errors.Is(err, ErrBadPayload) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestReplyPayloads(t *testing.T) {
	a := testAcceptance()
	good := a.appendTo(nil)
	newID := func(seq uint32, id wire.ID) []byte { return wire.AppendNewID(nil, seq, id, wire.Token{}) }
	accepted := appendPayloadHeader(nil, 0)
	params := appendParams(nil, a.Params)
	for name, tc := range map[string]struct {
		payload []byte
		ok      bool
	}{
		"good":              {good, true},
		"two ids":           {slices.Concat(accepted, params, newID(0, wire.ID{1}), newID(1, wire.ID{2})), true},
		"refused, bare":     {appendPayloadHeader(nil, 2), true},
		"unknown refusal":   {appendPayloadHeader(nil, 999), true},
		"empty":             {nil, false},
		"accepted, nothing": {accepted, false},
		"no id":             {slices.Concat(accepted, params), false},
		"no PARAMS":         {slices.Concat(accepted, newID(0, wire.ID{1})), false},
		"first id is seq 1": {slices.Concat(accepted, params, newID(1, wire.ID{1})), false},
		"same id twice":     {slices.Concat(accepted, params, newID(0, wire.ID{1}), newID(1, wire.ID{1})), false},
		"an unknown frame":  {append(bytes.Clone(good), 0x3f), false},
	} {
		_, err := parseReply(tc.payload)
		if tc.ok && err != nil || !tc.ok && !errors.Is(err, ErrBadPayload) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a man in the middle can do about versions: rewrite them, and then neither end
// opens what the other one sent; or have an INIT of an old version answered, and
// then the client sees in RESP, which he cannot rewrite, what both ends could do.
func TestThreatDowngrade(t *testing.T) {
	for at := 4; at < 8; at++ { // the version, in both packets
		i, r := newPair(t, nil)
		rewritten := wire.Init(bytes.Clone(i.Packet()))
		rewritten[at] ^= 1
		rewritten.SetMAC1(NewMAC1Key(PublicKey(r.static.PublicKey().Bytes())).Sum(rewritten)) // he knows the server's public key
		if q, err := r.Open(rewritten); err == nil {
			t.Errorf("the server opens an INIT whose byte %d was rewritten: %+v", at, q)
		}
		q, err := r.Open(i.Packet())
		if err != nil {
			t.Fatal(err)
		}
		a := testAcceptance()
		a.Versions = []uint32{1, 2}
		resp, _, err := q.Accept(a)
		if err != nil {
			t.Fatal(err)
		}
		for n := range resp {
			changed := bytes.Clone(resp)
			changed[n] ^= 1 << at
			if _, err := i.Finish(changed); !errors.Is(err, ErrNotOpened) {
				t.Fatalf("RESP with byte %d of %d rewritten: %v", n, len(resp), err)
			}
		}
		if reply, err := i.Finish(resp); err != nil || !slices.Equal(reply.Versions, a.Versions) {
			t.Errorf("the real RESP: %v, %v", reply, err)
		}
	}
	a := testAcceptance()
	a.Versions = []uint32{1, 2}
	if _, err := parseReply(a.appendTo(nil)); err != nil {
		t.Errorf("the server also speaks a version that we do not: %v", err)
	}
	defer func(v []uint32) { ourVersions = v }(ourVersions)
	ourVersions = []uint32{1, 2}
	if _, err := parseReply(a.appendTo(nil)); !errors.Is(err, ErrDowngrade) {
		t.Errorf("both ends speak version 2, version 1 was used: %v", err)
	}
}

func TestRESPNeverLargerThanINIT(t *testing.T) {
	i, r := newPair(t, nil)
	q, err := r.Open(i.Packet())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := q.Refuse(wire.StatusFull, wire.CloseLimit, strings.Repeat("x", 2000))
	if err != nil || len(resp) > wire.InitLen {
		t.Errorf("%d bytes, %v", len(resp), err)
	}
	q, err = r.Open(i.Packet())
	if err != nil {
		t.Fatal(err)
	}
	a := testAcceptance()
	a.Versions = make([]uint32, wire.MaxVersions)
	a.Addrs = make([]netip.AddrPort, wire.MaxAddrs)
	if _, _, err := q.Accept(a); err == nil {
		t.Error("a RESP larger than INIT was made")
	}
}

func TestMAC1(t *testing.T) {
	i, _ := newPair(t, nil)
	key := NewMAC1Key(PublicKey(i.cfg.PeerStatic))
	pkt := i.packet
	if !key.Verify(pkt) {
		t.Fatal("own mac1 does not verify")
	}
	for _, at := range []int{4, 8, 23, 40, 47, 48, 79} {
		pkt[at] ^= 1
		if key.Verify(pkt) {
			t.Errorf("byte %d changed, mac1 still verifies", at)
		}
		pkt[at] ^= 1
	}
	for _, at := range []int{24, 39, 80, wire.InitLen - 1} {
		pkt[at] ^= 1
		if !key.Verify(pkt) {
			t.Errorf("byte %d is outside of mac1, yet it matters", at)
		}
		pkt[at] ^= 1
	}
	if NewMAC1Key(PublicKey{1}).Verify(pkt) {
		t.Error("another server's mac1 key verifies")
	}
}

func FuzzResponder(f *testing.F) {
	v := readVectors(f)
	f.Add(v.packet(f, "init"))
	f.Add(v.packet(f, "init_with_cookie"))
	f.Add(v.packet(f, "resp"))
	r := v.responder(f, "")
	f.Fuzz(func(t *testing.T, pkt []byte) {
		q, err := r.Open(pkt)
		if err != nil {
			if !errors.Is(err, ErrNotOpened) && !errors.Is(err, ErrBadPayload) {
				t.Fatalf("not to be dropped in silence: %v", err)
			}
			return
		}
		// Nobody but the vectors' client can have made what opens.
		if key := v.input(t, "client_static_public"); !bytes.Equal(q.Client[:], key) {
			t.Fatalf("a forgery opened: %x", pkt)
		}
	})
}

func FuzzInitiator(f *testing.F) {
	v := readVectors(f)
	f.Add(v.packet(f, "resp"))
	f.Add(v.packet(f, "resp_refused_status_1"))
	f.Add(v.packet(f, "retry"))
	i := v.initiator(f)
	f.Fuzz(func(t *testing.T, pkt []byte) {
		if _, err := i.Finish(pkt); err != nil && !errors.Is(err, ErrNotOpened) {
			t.Fatal(err)
		}
		if _, err := i.Finish(v.packet(t, "resp")); err != nil {
			t.Fatalf("the real RESP no longer opens: %v", err)
		}
	})
}

// FuzzPayloads reads what only an authentic peer can send: it must be judged,
// not trusted.
func FuzzPayloads(f *testing.F) {
	good := initPayload{service: 1, params: Params{time.Second, 1}, newIDs: testIDs()}
	f.Add(good.appendTo(nil))
	a := testAcceptance()
	f.Add(a.appendTo(nil))
	f.Add(wire.AppendClose(appendPayloadHeader(nil, 2), wire.CloseNotAuthorised, "no"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseInitPayload(b); err == nil {
			if q, err := parseInitPayload(p.appendTo(nil)); err != nil || p != q {
				t.Fatalf("%+v written and read again: %+v, %v", p, q, err)
			}
		} else if !errors.Is(err, ErrBadPayload) {
			t.Fatal(err)
		}
		if _, err := parseReply(b); err != nil && !errors.Is(err, ErrBadPayload) {
			t.Fatal(err)
		}
	})
}

// BenchmarkResponder shows what an accepted INIT costs, and what it would cost
// with the DH of flynn/noise ("stock").
func BenchmarkResponder(b *testing.B) {
	i, r := newPair(b, nil)
	a := testAcceptance()
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			q, err := r.Open(i.Packet())
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := q.Accept(a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stock", func(b *testing.B) {
		static := noise.DHKey{Private: r.static.Bytes(), Public: r.static.PublicKey().Bytes()}
		stock := noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)
		payload := a.appendTo(nil)
		b.ReportAllocs()
		for b.Loop() {
			p := wire.Init(i.Packet())
			state, err := noise.NewHandshakeState(noise.Config{
				CipherSuite: stock, Pattern: noise.HandshakeIK, Prologue: prologue(p.Header()),
				PresharedKey: make([]byte, 32), PresharedKeyPlacement: pskPlacement, StaticKeypair: static,
			})
			if err != nil {
				b.Fatal(err)
			}
			if _, _, _, err := state.ReadMessage(nil, p.Noise()); err != nil {
				b.Fatal(err)
			}
			if _, _, _, err := state.WriteMessage(nil, payload); err != nil {
				b.Fatal(err)
			}
		}
	})
}
