// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

func TestAppendReset(t *testing.T) {
	key, id := [32]byte{1}, wire.ID{2}
	token := ResetToken(key, id)
	lengths := map[int]bool{}
	var last []byte
	for trigger := range 1300 {
		head := []byte("head")
		b, ok := AppendReset(head, key, id, trigger)
		if ok != (trigger > wire.MinData) {
			t.Fatalf("trigger of %d bytes: answered %v", trigger, ok)
		}
		if !ok {
			if len(b) != len(head) {
				t.Fatalf("trigger of %d bytes: %d bytes appended", trigger, len(b)-len(head))
			}
			continue
		}
		p := b[len(head):]
		switch {
		case !bytes.HasPrefix(b, head):
			t.Fatal("what was there is gone")
		case len(p) >= trigger || len(p) < wire.MinData || len(p) > MaxReset:
			t.Fatalf("%d bytes for a trigger of %d", len(p), trigger)
		case !bytes.HasSuffix(p, token[:]):
			t.Fatal("does not end with the token")
		case last != nil && bytes.Equal(p[8:24], last[8:24]):
			t.Fatal("the same filler twice")
		}
		if _, _, err := wire.ParseData(p); err != nil {
			t.Fatalf("is no DATA: %v", err)
		}
		lengths[len(p)] = true
		last = p
	}
	if len(lengths) != MaxReset-wire.MinData+1 {
		t.Errorf("lengths %v", lengths)
	}
}

// The vectors' own packet is one that AppendReset could have made.
func TestVectorReset(t *testing.T) {
	v := readVectors(t)
	packet, trigger := unhex(t, v.Reset.Packet), unhex(t, v.Reset.Trigger)
	_, id, err := wire.ParseData(trigger)
	if err != nil || id.String() != v.Reset.ID {
		t.Fatalf("the trigger names %v: %v", id, err)
	}
	ours, ok := AppendReset(nil, [32]byte(unhex(t, v.Reset.ResetKey)), id, len(trigger))
	if !ok || !bytes.Equal(ours[len(ours)-16:], packet[len(packet)-16:]) {
		t.Errorf("reset %x, the vectors' %x", ours, packet)
	}
	if len(packet) >= len(trigger) || len(packet) < wire.MinData || len(packet) > MaxReset || packet[0] != wire.TypeData {
		t.Errorf("the vectors' packet is no reset: %x", packet)
	}
}
