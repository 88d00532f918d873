// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// listIDs issues the ids of the vectors, in order.
type listIDs struct{ list []LocalID }

func (l *listIDs) Issue() (wire.ID, wire.Token, error) {
	if len(l.list) == 0 {
		return wire.ID{}, wire.Token{}, errors.New("no more ids in the vectors")
	}
	id := l.list[0]
	l.list = l.list[1:]
	return id.ID, id.Reset, nil
}

func (*listIDs) Retire(wire.ID) {}

// vectorEnd is an open session just before the vectors' rekey: the client sends
// next on the server's id 1 with counter 5, the server on the client's id 1 with
// counter 3. random is what it draws.
func vectorEnd(t *testing.T, role Role, random []byte) *Session {
	v := loadVectors(t)
	of := func(issuer string, from []vectorID) (ids []LocalID) {
		for _, id := range from {
			if id.Issuer == issuer {
				ids = append(ids, LocalID{id.Seq, wire.ID(unhex(t, id.ID)), wire.Token(unhex(t, id.Reset))})
			}
		}
		return ids
	}
	// The server's fourth id of epoch 0 came by a NEW_ID.
	var fourth wire.Frame
	frames, _ := vectorPacket(t, "NEW_ID with PING", "server to client")
	for r := wire.NewFrameReader(frames); r.Next(&fourth) && fourth.Type != wire.FrameNewID; {
	}
	epoch0 := func(issuer Role) []LocalID {
		ids := of(issuer.String(), v.IDs)
		if issuer == Server {
			ids = append(ids, LocalID{fourth.Seq, fourth.ID, fourth.Reset})
		}
		return ids
	}
	list := &listIDs{of(role.String(), v.Rekey.IDs)}
	cfg := Config{
		Role: role, IDs: list, Path: Path{Remote: serverAddr}, Random: bytes.NewReader(random), NoGrease: true,
		C2S: [32]byte(unhex(t, v.Handshake.C2S)), S2C: [32]byte(unhex(t, v.Handshake.S2C)),
		Local: epoch0(role),
	}
	for _, id := range epoch0(role.peer()) {
		cfg.Remote = append(cfg.Remote, RemoteID(id))
	}
	s := must(New(cfg, 0))
	s.state, s.ctl = StateOpen, control{}
	s.rid = s.remote[1]
	s.rid.taken = true
	s.rid.counter = 5
	if role == Server {
		s.rid.counter = 3
	}
	return s
}

func vectorPacket(t *testing.T, name, direction string) (frames, packet []byte) {
	for _, d := range loadVectors(t).Data {
		if d.Name == name && d.Direction == direction {
			return unhex(t, d.Frames), unhex(t, d.Packet)
		}
	}
	t.Fatalf("no packet %q", name)
	return nil, nil
}

// A client's whole rekey is the vectors', byte for byte.
func TestVectorRekeyClient(t *testing.T) {
	v := loadVectors(t)
	random := unhex(t, v.Rekey.ClientE)
	random = append(random, 0, 0, 0, 0, 0, 0, 0, 5) // the token of its PING
	random = append(random, 0, 0, 0, 0, 0, 0, 0, 7) // and of CLOSE's
	s := vectorEnd(t, Client, random)
	var out Output
	if err := s.Rekey(0, &out); err != nil {
		t.Fatal(err)
	}
	_, want := vectorPacket(t, "REKEY_INIT, its NEW_IDs, PING", "client to server")
	if len(out.Packets) != 1 || !bytes.Equal(out.Packets[0].Data, want) {
		t.Fatalf("REKEY_INIT: %x\nwant %x", out.Packets, want)
	}
	out.Reset()
	s.ids.(*listIDs).list = nil
	_, resp := vectorPacket(t, "REKEY_RESP, its NEW_IDs, PONG, PING", "server to client")
	if r := s.Receive(1, s.path, bytes.Clone(resp), &out); r != Delivered {
		t.Fatal(r)
	}
	if s.Info().Epoch != 1 || s.rid.Seq != 4 {
		t.Fatalf("epoch %d, on id %d", s.Info().Epoch, s.rid.Seq)
	}
	// Its PONG went out as the first packet on the new id.
	if counter, id, err := wire.ParseData(out.Packets[0].Data); err != nil || counter != 0 || id != s.rid.ID {
		t.Errorf("after REKEY_RESP: %d %v %v", counter, id, err)
	}
	out.Reset()
	_, data := vectorPacket(t, "first DATA of epoch 1", "server to client")
	if r := s.Receive(2, s.path, bytes.Clone(data), &out); r != Delivered || string(out.Datagrams[0]) != "epoch 1 too" {
		t.Errorf("first DATA: %v %q", r, out.Datagrams)
	}
	out.Reset()
	s.Close(3, wire.CloseDone, "bye", &out)
	if _, want := vectorPacket(t, "CLOSE with PING", "client to server"); !bytes.Equal(out.Packets[0].Data, want) {
		t.Errorf("CLOSE: %x\nwant %x", out.Packets[0].Data, want)
	}
}

// And so is a server's; that it sends PONG and REKEY_RESP as two packets is its
// own affair.
func TestVectorRekeyServer(t *testing.T) {
	v := loadVectors(t)
	random := unhex(t, v.Rekey.ServerE)
	random = append(random, 0, 0, 0, 0, 0, 0, 0, 6)
	s := vectorEnd(t, Server, random)
	var out Output
	_, init := vectorPacket(t, "REKEY_INIT, its NEW_IDs, PING", "client to server")
	if r := s.Receive(0, s.path, bytes.Clone(init), &out); r != Delivered {
		t.Fatal(r)
	}
	reader := vectorEnd(t, Client, nil)
	var got []byte
	for _, p := range out.Packets {
		counter, id, err := wire.ParseData(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		plain, ok := reader.open(reader.findLocal(&id), counter, bytes.Clone(p.Data), nil, new(Output))
		if !ok {
			t.Fatal("does not open")
		}
		got = append(got, plain...)
	}
	if want, _ := vectorPacket(t, "REKEY_RESP, its NEW_IDs, PONG, PING", "server to client"); !bytes.Equal(got, want) {
		t.Errorf("answered %x\nwant %x", got, want)
	}
	if s.rid.Seq != 1 || s.Info().Epoch != 1 {
		t.Errorf("before the client's first packet: on id %d, epoch %d", s.rid.Seq, s.Info().Epoch)
	}
	s.ids.(*listIDs).list = nil
	out.Reset()
	_, data := vectorPacket(t, "first DATA of epoch 1", "client to server")
	if r := s.Receive(1, s.path, bytes.Clone(data), &out); r != Delivered || string(out.Datagrams[0]) != "epoch 1" {
		t.Fatalf("first DATA: %v %q", r, out.Datagrams)
	}
	if !slices.ContainsFunc(out.Events, func(e Event) bool { return e.Kind == EventRekeyed }) || s.rid.Seq != 3 {
		t.Errorf("on id %d, %v", s.rid.Seq, out.Events)
	}
	out.Reset()
	if err := s.Send(2, []byte("epoch 1 too"), &out); err != nil {
		t.Fatal(err)
	}
	if _, want := vectorPacket(t, "first DATA of epoch 1", "server to client"); !bytes.Equal(out.Packets[0].Data, want) {
		t.Errorf("sent %x\nwant %x", out.Packets[0].Data, want)
	}
}
