// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

type vectorID struct {
	ID, Issuer, IV, Key string
	Reset               string `json:"reset_token"`
	Seq                 uint32
}

type vectors struct {
	Data []struct {
		Counter         uint64
		Direction, Name string
		Frames, Packet  string
		Seq             uint32 `json:"id_seq"`
	}
	Handshake struct {
		C2S string `json:"k_c2s"`
		S2C string `json:"k_s2c"`
	}
	IDs   []vectorID `json:"ids_epoch_0"`
	Rekey struct {
		IDs     []vectorID `json:"ids_epoch_1"`
		C2S     string     `json:"k_c2s"`
		S2C     string     `json:"k_s2c"`
		ClientE string     `json:"client_e_private"`
		ServerE string     `json:"server_e_private"`
	}
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func loadVectors(t testing.TB) (v vectors) {
	loadJSON(t, &v)
	return v
}

func loadJSON(t testing.TB, v any) {
	b, err := os.ReadFile("../../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

// vectorSession is a session that does nothing but lend its keys.
func vectorSession(t testing.TB, role Role, c2s, s2c string) *Session {
	s := &Session{hot: hot{role: role}}
	copy(s.c2s[:], unhex(t, c2s))
	copy(s.s2c[:], unhex(t, s2c))
	return s
}

func TestVectorKeys(t *testing.T) {
	v := loadVectors(t)
	check := func(ids []vectorID, c2s, s2c string) {
		for _, id := range ids {
			s := vectorSession(t, Server, c2s, s2c)
			secret := s.receiveSecret(id.Seq)
			if id.Issuer == "client" {
				secret = s.sendSecret(id.Seq)
			}
			okm, err := deriveID(secret, id.Seq, (*wire.ID)(unhex(t, id.ID)))
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(okm); got != id.Key+id.IV {
				t.Errorf("%s id %d: %s, want %s%s", id.Issuer, id.Seq, got, id.Key, id.IV)
			}
		}
	}
	check(v.IDs, v.Handshake.C2S, v.Handshake.S2C)
	check(v.Rekey.IDs, v.Rekey.C2S, v.Rekey.S2C)
}

// Every DATA packet of the vectors opens at its receiver and is sealed byte for
// byte by its sender.
func TestVectorData(t *testing.T) {
	v := loadVectors(t)
	if len(v.Data) < 23 {
		t.Fatalf("%d packets", len(v.Data))
	}
	find := func(ids []vectorID, issuer string, seq uint32) *vectorID {
		for i := range ids {
			if ids[i].Issuer == issuer && ids[i].Seq == seq {
				return &ids[i]
			}
		}
		return nil
	}
	for _, d := range v.Data {
		from, to, issuer := Client, Server, "server"
		if d.Direction == "server to client" {
			from, to, issuer = Server, Client, "client"
		}
		c2s, s2c := v.Handshake.C2S, v.Handshake.S2C
		id := find(v.IDs, issuer, d.Seq)
		if id == nil {
			c2s, s2c = v.Rekey.C2S, v.Rekey.S2C
			id = find(v.Rekey.IDs, issuer, d.Seq)
		}
		if id == nil {
			t.Fatalf("%s: no id %d of the %s", d.Name, d.Seq, issuer)
		}
		frames, packet := unhex(t, d.Frames), unhex(t, d.Packet)

		r := vectorSession(t, to, c2s, s2c)
		counter, wireID, err := wire.ParseData(packet)
		if err != nil || counter != d.Counter || wireID.String() != id.ID {
			t.Errorf("%s: header %v %v %v", d.Name, counter, wireID, err)
			continue
		}
		in := &localID{LocalID: LocalID{Seq: d.Seq, ID: wireID}}
		plain, ok := r.open(in, counter, bytes.Clone(packet), nil, new(Output))
		if !ok || !bytes.Equal(plain, frames) {
			t.Errorf("%s: opened %v to %x, want %x", d.Name, ok, plain, frames)
		}

		s := vectorSession(t, from, c2s, s2c)
		s.state = StateClosing // the last counters of an id are kept for CLOSE
		rid := &remoteID{RemoteID: RemoteID{Seq: d.Seq, ID: wireID}, counter: d.Counter}
		var out Output
		start := begin(&out, len(frames))
		out.arena = append(out.arena, frames...)
		if !s.finish(0, &out, start, Path{}, rid, false) || !bytes.Equal(out.Packets[0].Data, packet) {
			t.Errorf("%s: sealed otherwise", d.Name)
		}
	}
}

// A 3000-byte datagram over IPv6 is cut as the vectors have it.
func TestVectorParts(t *testing.T) {
	v := loadVectors(t)
	var whole []byte
	var want [][]byte
	for _, d := range v.Data {
		if b := unhex(t, d.Frames); wire.FrameType(b[0]) == wire.FrameDatagramPart {
			want = append(want, b)
			whole = append(whole, b[wire.DatagramPartHeader:]...)
		}
	}
	if len(whole) != 3000 {
		t.Fatalf("parts hold %d bytes", len(whole))
	}
	m := opened(t, 1)
	m.c.path.Remote = addrC // an IPv6 path
	m.c.mtu.reset(m.c.path)
	m.c.partNumber = 1
	var out Output
	if err := m.c.Send(m.now, whole, &out); err != nil {
		t.Fatal(err)
	}
	for i, p := range out.Packets[:len(want)] {
		counter, id, _ := wire.ParseData(p.Data)
		plain, ok := m.s.open(m.s.findLocal(&id), counter, p.Data, nil, new(Output))
		if !ok || !bytes.Equal(plain, want[i]) {
			t.Errorf("part %d differs: %x", i, plain[:8])
		}
	}
}
