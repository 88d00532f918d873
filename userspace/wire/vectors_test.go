// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// vectors is what this package checks of testdata/vectors.json: frames and
// unencrypted packets. The handshake package checks what is inside INIT and
// RESP, the session package what is inside DATA.
type vectors struct {
	BadFrames []struct{ Frames, Why string } `json:"bad_frames"`
	Data      []struct {
		Name    string
		Counter uint64
		Frames  string
		Packet  string
		IDSeq   uint32 `json:"id_seq"`
	}
	Handshake struct {
		Init           string
		InitWithCookie string `json:"init_with_cookie"`
		InitFrames     string `json:"init_payload_frames"`
		Resp           string
		RespFrames     string `json:"resp_payload_frames"`
		RespRefused    string `json:"resp_refused_status_1"`
		Retry          string
		Versions       string `json:"versions_packet"`
	}
	Cookie []struct{ Cookie string }
	Inputs struct {
		HandshakeID string `json:"handshake_id"`
	}
	Mac1 struct{ Input, Mac1 string }
}

func readVectors(t testing.TB) *vectors {
	t.Helper()
	b, err := os.ReadFile("../../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	if len(v.BadFrames) == 0 || len(v.Data) == 0 || v.Handshake.Init == "" {
		t.Fatal("vectors.json lacks the groups that this test is for")
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// appendFrame writes a frame as it was read, so that tests can go full circle.
func appendFrame(b []byte, f *Frame, padRun int) []byte {
	switch f.Type {
	case FramePad:
		return AppendPad(b, padRun)
	case FramePing:
		return AppendPing(b, f.Token)
	case FramePong:
		return AppendPong(b, f.Token)
	case FrameChallenge:
		return AppendChallenge(b, f.Cookie)
	case FrameResponse:
		return AppendResponse(b, f.Cookie)
	case FrameNotPreferred:
		return AppendNotPreferred(b, f.Cookie)
	case FrameNewID:
		return AppendNewID(b, f.Seq, f.ID, f.Reset)
	case FrameClose:
		return AppendClose(b, f.Code, string(f.Reason))
	case FrameObservedAddr:
		return AppendObservedAddr(b, f.Addr)
	case FrameAddrs:
		return AppendAddrs(b, f.Addrs())
	case FrameParams:
		return AppendParams(b, f.IdleTimeout, f.MaxDatagram)
	case FrameVersions:
		return AppendVersions(b, f.Versions.AppendTo(nil))
	case FrameDatagram:
		return AppendDatagram(b, f.Data)
	case FrameDatagramLen:
		return AppendDatagramLen(b, f.Data)
	case FrameDatagramPart:
		return AppendDatagramPart(b, f.Part, f.Data)
	case FrameRekeyInit:
		return AppendRekeyInit(b, f.Epoch, f.FirstSeq, f.Noise)
	case FrameRekeyResp:
		return AppendRekeyResp(b, f.Epoch, f.FirstSeq, f.Noise)
	}
	return AppendExtension(b, f.Type, f.Data)
}

// rewrite reads all frames and writes them again.
func rewrite(plaintext []byte) ([]byte, error) {
	var out []byte
	var f Frame
	r := NewFrameReader(plaintext)
	for before := len(plaintext); r.Next(&f); before = len(r.rest) {
		out = appendFrame(out, &f, before-len(r.rest))
	}
	return out, r.Err()
}

func TestVectorFramesFullCircle(t *testing.T) {
	v := readVectors(t)
	check := func(name, frames string) {
		want := unhex(t, frames)
		got, err := rewrite(want)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", name, got, want)
		}
	}
	for _, d := range v.Data {
		check(d.Name, d.Frames)
	}
	check("INIT payload", v.Handshake.InitFrames)
	check("RESP payload", v.Handshake.RespFrames)
}

func TestVectorBadFrames(t *testing.T) {
	for _, bad := range readVectors(t).BadFrames {
		plaintext := unhex(t, bad.Frames)
		err := CheckFrames(plaintext)
		if err == nil || err.Error() != bad.Why {
			t.Errorf("%s: got %v, want %s", bad.Frames, err, bad.Why)
		}
	}
}

func TestVectorDataHeaders(t *testing.T) {
	for _, d := range readVectors(t).Data {
		pkt := unhex(t, d.Packet)
		counter, id, err := ParseData(pkt)
		if err != nil || counter != d.Counter {
			t.Errorf("%s: counter %d, %v; want %d", d.Name, counter, err, d.Counter)
		}
		if n := len(unhex(t, d.Frames)) + Overhead; n != len(pkt) {
			t.Errorf("%s: packet of %d bytes, frames and overhead are %d", d.Name, len(pkt), n)
		}
		var h [HeaderLen]byte
		PutDataHeader(h[:], counter, id)
		if !bytes.Equal(h[:], pkt[:HeaderLen]) {
			t.Errorf("%s: header %x, want %x", d.Name, h, pkt[:HeaderLen])
		}
	}
}

func TestVectorHandshakePackets(t *testing.T) {
	v := readVectors(t)
	hid := ID(unhex(t, v.Inputs.HandshakeID))
	cookie := Cookie(unhex(t, v.Cookie[0].Cookie))

	pkt := unhex(t, v.Handshake.Init)
	p, err := ParseInit(pkt)
	if err != nil {
		t.Fatal(err)
	}
	if p.HandshakeID() != hid || !p.Cookie().IsZero() {
		t.Errorf("INIT: handshake id %v, cookie %v", p.HandshakeID(), p.Cookie())
	}
	in, mac1 := p.MAC1Input(), p.MAC1()
	if !bytes.Equal(in[:], unhex(t, v.Mac1.Input)) || !bytes.Equal(mac1[:], unhex(t, v.Mac1.Mac1)) {
		t.Errorf("INIT: mac1 input %x, mac1 %x", in, mac1)
	}
	rebuilt := NewInit(make([]byte, InitLen), hid)
	rebuilt.SetMAC1(mac1)
	copy(rebuilt.Noise(), p.Noise())
	if !bytes.Equal(rebuilt, pkt) {
		t.Errorf("INIT put together again differs:\n%x", rebuilt)
	}
	rebuilt.SetCookie(cookie)
	if !bytes.Equal(rebuilt, unhex(t, v.Handshake.InitWithCookie)) {
		t.Errorf("INIT with the cookie differs:\n%x", rebuilt)
	}

	retry := unhex(t, v.Handshake.Retry)
	if h, c, err := ParseRetry(retry); err != nil || h != hid || c != cookie {
		t.Errorf("RETRY: %v %v %v", h, c, err)
	}
	if got := AppendRetry(nil, hid, cookie); !bytes.Equal(got, retry) {
		t.Errorf("RETRY: got %x, want %x", got, retry)
	}

	for _, s := range []string{v.Handshake.Resp, v.Handshake.RespRefused} {
		resp := unhex(t, s)
		h, noise, err := ParseResp(resp)
		if err != nil || h != hid {
			t.Errorf("RESP: %v %v", h, err)
		}
		if got := append(AppendRespHeader(nil, hid), noise...); !bytes.Equal(got, resp) {
			t.Errorf("RESP: got %x, want %x", got, resp)
		}
	}

	versions := unhex(t, v.Handshake.Versions)
	h, list, err := ParseVersions(versions)
	if err != nil || h != hid || list.Len() != 1 || !list.Contains(Version1) {
		t.Errorf("VERSIONS: %v %x %v", h, list, err)
	}
	if got := AppendVersionsPacket(nil, hid, []uint32{Version1}); !bytes.Equal(got, versions) {
		t.Errorf("VERSIONS: got %x, want %x", got, versions)
	}
}
