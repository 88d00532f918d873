// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// vectors is what this package checks of testdata/vectors.json.
type vectors struct {
	Inputs    map[string]any
	Handshake map[string]string
	IDs       []struct {
		ID, Issuer string
		ResetToken string `json:"reset_token"`
		Seq        uint32
	} `json:"ids_epoch_0"`
	Cookie []struct {
		Cookie, Dst, Src, Key string
		Epoch                 uint64
		HandshakeID           string `json:"handshake_id"`
		KeyID                 byte   `json:"key_id"`
		ServerID              uint16 `json:"server_id"`
		Time                  uint32
	}
	Mac1  struct{ Input, Key, Mac1 string }
	Noise struct{ Name, Prologue string }
	Reset struct {
		ID, Token       string
		Packet, Trigger string
		ResetKey        string `json:"reset_key"`
	}
}

func vectorsFile(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readVectors(t testing.TB) *vectors {
	t.Helper()
	v := new(vectors)
	if err := json.Unmarshal(vectorsFile(t), v); err != nil {
		t.Fatal(err)
	}
	return v
}

// unhex fails on an empty string: the vector that it should be would be missing.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 {
		t.Fatalf("no hex: %q %v", s, err)
	}
	return b
}

func (v *vectors) input(t testing.TB, name string) []byte {
	t.Helper()
	s, _ := v.Inputs[name].(string)
	return unhex(t, s)
}

func (v *vectors) packet(t testing.TB, name string) []byte {
	t.Helper()
	return unhex(t, v.Handshake[name])
}

// newIDs returns the ids that one side issues in epoch 0.
func (v *vectors) newIDs(t testing.TB, issuer string) []NewID {
	t.Helper()
	var ids []NewID
	for _, id := range v.IDs {
		if id.Issuer == issuer {
			ids = append(ids, NewID{id.Seq, wire.ID(unhex(t, id.ID)), wire.Token(unhex(t, id.ResetToken))})
		}
	}
	if len(ids) != initIDs {
		t.Fatalf("%d ids of %s", len(ids), issuer)
	}
	return ids
}

func (v *vectors) clientConfig(t testing.TB) ClientConfig {
	random := append(v.input(t, "handshake_id"), v.input(t, "client_e_private")...)
	return ClientConfig{
		Static:  PrivateKey(v.input(t, "client_static_private")),
		Server:  PublicKey(v.input(t, "server_static_public")),
		PSK:     PSK(v.input(t, "psk")),
		Service: 7,
		Params:  v.paramsIn(t, "init_payload_frames"),
		NewIDs:  [initIDs]NewID(v.newIDs(t, "client")),
		Random:  bytes.NewReader(random),
	}
}

func (v *vectors) initiator(t testing.TB) *Initiator {
	t.Helper()
	i, err := NewInitiator(v.clientConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// paramsIn reads the PARAMS of a payload's frames.
func (v *vectors) paramsIn(t testing.TB, name string) Params {
	t.Helper()
	var f wire.Frame
	for r := wire.NewFrameReader(v.packet(t, name)); r.Next(&f); {
		if f.Type == wire.FrameParams {
			return paramsOf(&f)
		}
	}
	t.Fatalf("%s has no PARAMS", name)
	return Params{}
}

// responder returns the vectors' server, with the Noise e of an input.
func (v *vectors) responder(t testing.TB, ephemeral string) *Responder {
	t.Helper()
	r, err := NewResponder(PrivateKey(v.input(t, "server_static_private")), PSK(v.input(t, "psk")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if ephemeral != "" {
		r.random = bytes.NewReader(v.input(t, ephemeral))
	}
	return r
}

func (v *vectors) acceptance(t testing.TB) Acceptance {
	return Acceptance{
		Params:   v.paramsIn(t, "resp_payload_frames"),
		NewID:    v.newIDs(t, "server")[0],
		Observed: netip.MustParseAddrPort("192.0.2.10:40000"),
		Addrs: []netip.AddrPort{
			netip.MustParseAddrPort("198.51.100.7:7626"),
			netip.MustParseAddrPort("[2001:db8:7::1]:7626"),
		},
		Versions: []uint32{1},
	}
}

// TestVectorGroupsAreAllChecked fails when vectors.json gains a group that
// nobody checks.
func TestVectorGroupsAreAllChecked(t *testing.T) {
	checkedBy := map[string]string{
		"about":       "prose",
		"inputs":      "inputs of the others",
		"bad_frames":  "wire",
		"cookie":      "handshake",
		"handshake":   "handshake; frames and cleartext in wire",
		"mac1":        "handshake",
		"noise":       "handshake",
		"ids_epoch_0": "session: key and iv; handshake: the server's reset token",
		"data":        "wire: frames and header; session: the whole packet",
		"reset":       "handshake; session: the packet ends a session",
		"rekey":       "handshake: the Noise messages; session: ids, keys and packets",
	}
	var groups map[string]json.RawMessage
	if err := json.Unmarshal(vectorsFile(t), &groups); err != nil {
		t.Fatal(err)
	}
	for g := range groups {
		if checkedBy[g] == "" {
			t.Errorf("nobody checks the group %q", g)
		}
	}
	for g := range checkedBy {
		if groups[g] == nil {
			t.Errorf("the group %q is gone", g)
		}
	}
}

func TestVectorKeys(t *testing.T) {
	v := readVectors(t)
	for _, who := range []string{"client_static", "server_static"} {
		public := PrivateKey(v.input(t, who+"_private")).Public()
		if !bytes.Equal(public[:], v.input(t, who+"_public")) {
			t.Errorf("%s: public key %x", who, public)
		}
	}
	key := NewMAC1Key(PublicKey(v.input(t, "server_static_public")))
	if !bytes.Equal(key[:], unhex(t, v.Mac1.Key)) {
		t.Errorf("mac1 key %x", key)
	}
	secret := StateSecret(v.input(t, "state_secret"))
	resetKey := secret.ResetKey()
	if !bytes.Equal(resetKey[:], unhex(t, v.Reset.ResetKey)) {
		t.Errorf("reset key %x", resetKey)
	}
	token := ResetToken(resetKey, wire.ID(unhex(t, v.Reset.ID)))
	if !bytes.Equal(token[:], unhex(t, v.Reset.Token)) {
		t.Errorf("reset token %x", token)
	}
}

func TestVectorINIT(t *testing.T) {
	v := readVectors(t)
	i := v.initiator(t)
	if !bytes.Equal(i.cfg.Prologue, unhex(t, v.Noise.Prologue)) {
		t.Errorf("prologue %x", i.cfg.Prologue)
	}
	if want := v.packet(t, "init"); !bytes.Equal(i.Packet(), want) {
		t.Fatalf("INIT:\n got %x\nwant %x", i.Packet(), want)
	}
	if mac1 := wire.Init(i.Packet()).MAC1(); !bytes.Equal(mac1[:], unhex(t, v.Mac1.Mac1)) {
		t.Errorf("mac1 %x", mac1)
	}
	_, cookie, err := wire.ParseRetry(v.packet(t, "retry"))
	if err != nil {
		t.Fatal(err)
	}
	i.SetCookie(cookie)
	if want := v.packet(t, "init_with_cookie"); !bytes.Equal(i.Packet(), want) {
		t.Errorf("INIT with cookie:\n got %x\nwant %x", i.Packet(), want)
	}
	i.SetCookie(wire.Cookie{})
	if !bytes.Equal(i.Packet(), v.packet(t, "init")) {
		t.Error("INIT differs once its cookie is gone")
	}
}

func TestVectorServerReadsINIT(t *testing.T) {
	v := readVectors(t)
	for _, name := range []string{"init", "init_with_cookie"} {
		pkt := v.packet(t, name)
		if !NewMAC1Key(PublicKey(v.input(t, "server_static_public"))).Verify(pkt) {
			t.Errorf("%s: mac1 does not verify", name)
		}
		q, err := v.responder(t, "").Open(pkt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(q.Client[:], v.input(t, "client_static_public")) {
			t.Errorf("%s: client %v", name, q.Client)
		}
		if q.HandshakeID != wire.ID(v.input(t, "handshake_id")) || q.Ephemeral != wire.Init(pkt).Ephemeral() {
			t.Errorf("%s: handshake id %v, e %x", name, q.HandshakeID, q.Ephemeral)
		}
		if q.Service != 7 || q.Params != v.paramsIn(t, "init_payload_frames") || !slices.Equal(q.NewIDs[:], v.newIDs(t, "client")) {
			t.Errorf("%s: %+v", name, q)
		}
	}
}

func TestVectorRESP(t *testing.T) {
	v := readVectors(t)
	q, err := v.responder(t, "server_e_private").Open(v.packet(t, "init"))
	if err != nil {
		t.Fatal(err)
	}
	a := v.acceptance(t)
	resp, secrets, err := q.Accept(a)
	if err != nil {
		t.Fatal(err)
	}
	if want := v.packet(t, "resp"); !bytes.Equal(resp, want) {
		t.Fatalf("RESP:\n got %x\nwant %x", resp, want)
	}
	want := Secrets{[32]byte(v.packet(t, "k_c2s")), [32]byte(v.packet(t, "k_s2c"))}
	if secrets != want {
		t.Errorf("server's secrets %x", secrets)
	}

	reply, err := v.initiator(t).Finish(v.packet(t, "resp"))
	if err != nil {
		t.Fatal(err)
	}
	if reply.Secrets != want {
		t.Errorf("client's secrets %x", reply.Secrets)
	}
	if reply.Status != wire.StatusAccepted || reply.Params != a.Params || !slices.Equal(reply.NewIDs, []NewID{a.NewID}) ||
		reply.Observed != a.Observed || !slices.Equal(reply.Addrs, a.Addrs) || !slices.Equal(reply.Versions, a.Versions) {
		t.Errorf("client reads %+v", reply)
	}
}

func TestVectorRefusal(t *testing.T) {
	v := readVectors(t)
	want := v.packet(t, "resp_refused_status_1")
	reply, err := v.initiator(t).Finish(want)
	if err != nil {
		t.Fatal(err)
	}
	if reply.Status != wire.StatusNoService || reply.Reason == "" || reply.Secrets != (Secrets{}) || reply.NewIDs != nil {
		t.Errorf("client reads %+v", reply)
	}
	q, err := v.responder(t, "server_e_refused_private").Open(v.packet(t, "init"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := q.Refuse(reply.Status, reply.Code, reply.Reason)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(resp, want) {
		t.Errorf("refusal:\n got %x\nwant %x", resp, want)
	}
}

func TestVectorCookies(t *testing.T) {
	v := readVectors(t)
	secret := [32]byte(v.input(t, "cookie_secret"))
	for _, c := range v.Cookie {
		cookies := NewCookies(secret, c.ServerID)
		hid := wire.ID(unhex(t, c.HandshakeID))
		src, dst := netip.MustParseAddrPort(c.Src), netip.MustParseAddrPort(c.Dst)
		if key := cookies.Key(c.Epoch); !bytes.Equal(key[:], unhex(t, c.Key)) || byte(c.Epoch) != c.KeyID {
			t.Errorf("epoch %d: key %x", c.Epoch, key)
		}
		ck := cookies.Make(c.Time, hid, src, dst)
		if !bytes.Equal(ck[:], unhex(t, c.Cookie)) {
			t.Errorf("%s at %d: cookie %v, want %s", c.Src, c.Time, ck, c.Cookie)
		}
		if !cookies.Valid(c.Time, ck, hid, src, dst) {
			t.Errorf("%s at %d: own cookie is not valid", c.Src, c.Time)
		}
	}
	// RETRY carries the first of them.
	hid, ck, err := wire.ParseRetry(v.packet(t, "retry"))
	if err != nil || hid.String() != v.Cookie[0].HandshakeID || ck.String() != v.Cookie[0].Cookie {
		t.Errorf("RETRY: %v %v %v", hid, ck, err)
	}
}
