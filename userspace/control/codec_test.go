// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// plainValues lets tests compare addresses.
var plainValues = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

// exampleSession has another value in every field for every n.
func exampleSession(n uint64) Session {
	r := rand.New(rand.NewPCG(n, 1))
	id := func() (id wire.ID) {
		for i := range id {
			id[i] = byte(r.Uint32())
		}
		return id
	}
	addr := func() netip.AddrPort {
		if r.IntN(2) == 0 {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(r.Uint32())}), uint16(1+r.IntN(math.MaxUint16)))
		}
		return netip.AddrPortFrom(netip.AddrFrom16(id()), uint16(1+r.IntN(math.MaxUint16)))
	}
	at := func() time.Time { return time.Unix(r.Int64N(1<<32), 1+r.Int64N(1e9-1)).UTC() }
	s := Session{
		ID: id(), CurrentID: id(), PeerKey: handshake.PublicKey{1, byte(n)}, PeerName: []string{"alice", "", "Bärbel \"<b>\" \n"}[n%3],
		Service: uint16(r.Uint32()), State: SessionStates[n%5], Owner: int(r.Uint32N(64)), Remote: addr(), Local: addr(),
		Candidates: []netip.AddrPort{}, Started: at(), LastReceived: at(),
		Moves: r.Uint64(), MovesRefused: r.Uint64(), MovesReverted: r.Uint64(), ForwardingAlarms: r.Uint64(),
		RTT: r.Int64(), PathMTU: int(r.Uint32N(65536)), PacketsReceived: r.Uint64(), PacketsSent: r.Uint64(),
		BytesReceived: r.Uint64(), BytesSent: r.Uint64(), DatagramsReceived: r.Uint64(), DatagramsSent: r.Uint64(),
	}
	for range n % 4 {
		s.Candidates = append(s.Candidates, addr())
	}
	if n%2 == 0 {
		s.LastMove = at()
	}
	return s
}

// Every field comes through the binary form; a new one that it lacks fails here.
func TestBinaryForm(t *testing.T) {
	full := exampleSession(0) // has a name and a last move
	full.Candidates = append(full.Candidates, full.Local)
	for i, v := 0, reflect.ValueOf(full); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Fatalf("the example leaves %s zero", v.Type().Field(i).Name)
		}
	}
	var reused Session
	for n := range uint64(100) {
		want := exampleSession(n)
		if n == 0 {
			want = full
		}
		form, _ := want.AppendBinary(nil)
		if err := reused.UnmarshalBinary(append(form, "a later version's"...)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, reused, plainValues); diff != "" {
			t.Errorf("session %d: %s", n, diff)
		}
	}
}

// A reader of this version takes what an earlier one wrote: what is missing is zero.
func TestBinaryFormOfEarlierVersion(t *testing.T) {
	want := exampleSession(4)
	want.DatagramsSent = 0
	form, _ := want.AppendBinary(nil)
	var have Session
	if err := have.UnmarshalBinary(form[:len(form)-1]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have, plainValues); diff != "" {
		t.Error(diff)
	}
	if err := have.UnmarshalBinary(form[:20]); err == nil {
		t.Error("a field that is cut in the middle is taken")
	}
	if err := have.UnmarshalBinary(nil); err == nil {
		t.Error("nothing is taken for a session")
	}
}

// What is written by hand is what encoding/json makes of the tags.
func TestJSONForm(t *testing.T) {
	for n := range uint64(100) {
		s := exampleSession(n)
		var want bytes.Buffer
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(n%3 == 2) // that name goes through json.Marshal
		if err := encoder.Encode(s); err != nil {
			t.Fatal(err)
		}
		if have := append(s.AppendJSON(nil), '\n'); !bytes.Equal(want.Bytes(), have) {
			t.Errorf("session %d:\n%s\nwant\n%s", n, have, want.Bytes())
		}
	}
}

func FuzzUnmarshalBinary(f *testing.F) {
	for n := range uint64(8) {
		s := exampleSession(n)
		form, _ := s.AppendBinary(nil)
		f.Add(form)
	}
	f.Fuzz(func(t *testing.T, form []byte) {
		var s, again Session
		if s.UnmarshalBinary(form) != nil {
			return
		}
		form, _ = s.AppendBinary(nil)
		if err := again.UnmarshalBinary(form); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again, plainValues); diff != "" {
			t.Error(diff)
		}
	})
}
