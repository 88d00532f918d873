// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

var (
	server4  = netip.MustParseAddrPort("203.0.113.1:7626")
	server6  = netip.MustParseAddrPort("[2001:db8:e::1]:7626")
	client4  = netip.MustParseAddrPort("198.51.100.10:4000")
	client6  = netip.MustParseAddrPort("[2001:db8:6::2]:4000")
	someMACs = [2][6]byte{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}
)

func TestFramesAreReadAsTheyWereBuilt(t *testing.T) {
	for _, ends := range [][2]netip.AddrPort{{client4, server4}, {client6, server6}} {
		for _, payload := range [][]byte{{}, {1}, []byte("even"), bytes.Repeat([]byte{0xff}, 1201)} {
			frame := appendFrame(nil, someMACs[0], someMACs[1], ends[0], ends[1], payload)
			src, dst, got, ok := parseFrame(append(frame, 0, 0, 0)) // short frames are padded
			if !ok || src != ends[0] || dst != ends[1] || !bytes.Equal(got, payload) {
				t.Errorf("%v -> %v, %d bytes: read %v -> %v, %d bytes, %v", ends[0], ends[1], len(payload), src, dst, len(got), ok)
			}
			checkSums(t, frame)
			for cut := range len(frame) {
				parseFrame(frame[:cut]) // must not panic
			}
		}
	}
}

// checkSums verifies what a receiver would: headers with their checksums sum up
// to all ones.
func checkSums(t *testing.T, frame []byte) {
	t.Helper()
	packet := frame[14:]
	addresses, udp := packet[12:20], packet[20:]
	if packet[0]>>4 == 6 {
		addresses, udp = packet[8:40], packet[40:]
	} else if sum := fold(0, packet[:20]); sum != 0xffff {
		t.Errorf("IPv4 header sums up to %#04x", sum)
	}
	pseudo := binary.BigEndian.AppendUint16([]byte{0, protoUDP}, uint16(len(udp)))
	if sum := fold(uint32(fold(0, addresses))+uint32(fold(0, pseudo)), udp); sum != 0xffff {
		t.Errorf("UDP sums up to %#04x", sum)
	}
}

// data is a packet of a client as an eavesdropper sees it.
func data(counter uint64, id wire.ID) []byte {
	p := noise(120)
	wire.PutDataHeader(p, counter, id)
	return p
}

func testArsenal(t *testing.T) (*arsenal, wire.ID) {
	t.Helper()
	s := &sniffer{port: 7626}
	id := wire.ID{1, 2, 3}
	for counter := range uint64(keepMost + 5) {
		s.see(appendFrame(nil, someMACs[0], someMACs[1], client4, server4, data(counter, id)))
	}
	s.see(appendFrame(nil, someMACs[0], someMACs[1], server4, client4, data(7, wire.ID{9})))
	key := handshake.NewPrivateKey().Public()
	return &arsenal{sniffer: s, servers: []netip.AddrPort{server4, server6}, mac1: handshake.NewMAC1Key(key)}, id
}

func TestForgedPacketsCarryTheSniffedID(t *testing.T) {
	a, id := testArsenal(t)
	for name, source := range map[string]netip.AddrPort{AttackForge: {}, AttackForgeFlood: {}, AttackForgeSpoof: client4} {
		h, ok := a.attack(name)()
		if !ok || h.source != source || h.to != server4 {
			t.Fatalf("%s: %v -> %v, %v", name, h.source, h.to, ok)
		}
		counter, got, err := wire.ParseData(h.payload)
		if err != nil || got != id || counter <= keepMost+4 {
			t.Errorf("%s: counter %d, id %v (%v): a newer packet under %v is wanted", name, counter, got, err, id)
		}
	}
}

func TestReplaysAreWhatWasSniffed(t *testing.T) {
	a, id := testArsenal(t)
	h, ok := a.attack(AttackReplay)()
	if counter, got, err := wire.ParseData(h.payload); !ok || err != nil || got != id || counter < 5 || h.source.IsValid() {
		t.Errorf("replay of counter %d, id %v from %v (%v): one of the newest %d is wanted", counter, got, h.source, err, keepMost)
	}
	h, ok = a.attack(AttackReplayDown)()
	if !ok || h.source != server4 || h.to != client4 {
		t.Errorf("replay to the client: %v -> %v", h.source, h.to)
	}
	if _, ok := a.attack(AttackReplayInit)(); ok {
		t.Error("replayed an INIT that was never seen")
	}
}

func TestSpoofedInitsHoldUpToTheNoise(t *testing.T) {
	a, _ := testArsenal(t)
	families := map[bool]int{}
	for range 200 {
		h, _ := a.attack(AttackInits)()
		p, err := wire.ParseInit(h.payload)
		if err != nil || !a.mac1.Verify(p) || !p.Cookie().IsZero() {
			t.Fatalf("an INIT that XDP drops early: %v", err)
		}
		if !h.source.IsValid() || h.source.Addr().Is4() != h.to.Addr().Is4() || h.source.Port() == 0 {
			t.Fatalf("from %v to %v", h.source, h.to)
		}
		families[h.to.Addr().Is4()]++
		h, _ = a.attack(AttackBlindInits)()
		if p, err := wire.ParseInit(h.payload); err != nil || a.mac1.Verify(p) {
			t.Fatalf("a blind INIT with a good mac1 (%v)", err)
		}
	}
	if len(families) != 2 {
		t.Errorf("only one family is attacked: %v", families)
	}
}

func TestEveryAttackIsToldAndStopped(t *testing.T) {
	a, _ := testArsenal(t)
	for _, c := range campaigns {
		for _, name := range c.parts {
			if a.attack(name) == nil || c.what == "" || c.must == "" {
				t.Errorf("%s: no such attack, or no words for it", name)
			}
		}
	}
	if a.attack("kindness") != nil {
		t.Error("an attack of no name")
	}
}
