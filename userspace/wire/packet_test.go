// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"testing"
)

func TestParseErrors(t *testing.T) {
	hid := ID{1, 2, 3}
	initPkt := func(mend func(b []byte)) []byte {
		b := NewInit(make([]byte, InitLen), hid)
		mend(b)
		return b
	}
	nothing := func([]byte) {}
	reserved := func(b []byte) { b[3] = 1 }
	version := func(b []byte) { b[7]++ }
	resp := AppendRespHeader(nil, hid)
	resp = append(resp, make([]byte, MinResp-len(resp))...)
	change := func(b []byte, mend func(b []byte)) []byte {
		b = append([]byte(nil), b...)
		mend(b)
		return b
	}
	retry := AppendRetry(nil, hid, Cookie{9})
	versions := AppendVersionsPacket(nil, hid, []uint32{1, 2})
	data := make([]byte, MinData)
	PutDataHeader(data, 7, hid)

	parse := map[string]func([]byte) error{
		"INIT":     func(b []byte) error { _, err := ParseInit(b); return err },
		"RETRY":    func(b []byte) error { _, _, err := ParseRetry(b); return err },
		"RESP":     func(b []byte) error { _, _, err := ParseResp(b); return err },
		"VERSIONS": func(b []byte) error { _, _, err := ParseVersions(b); return err },
		"DATA":     func(b []byte) error { _, _, err := ParseData(b); return err },
	}
	for _, tc := range []struct {
		parser, name string
		pkt          []byte
		want         error
	}{
		{"INIT", "good", initPkt(nothing), nil},
		{"INIT", "empty", nil, ErrPacketType},
		{"INIT", "other type", retry, ErrPacketType},
		{"INIT", "short", initPkt(nothing)[:InitLen-1], ErrLength},
		{"INIT", "long", append(initPkt(nothing), 0), ErrLength},
		{"INIT", "reserved", initPkt(reserved), ErrReserved},
		{"INIT", "version", initPkt(version), ErrVersion},
		{"RETRY", "good", retry, nil},
		{"RETRY", "empty", nil, ErrPacketType},
		{"RETRY", "short", retry[:RetryLen-1], ErrLength},
		{"RETRY", "long", append(change(retry, nothing), 0), ErrLength},
		{"RETRY", "reserved", change(retry, reserved), ErrReserved},
		{"RETRY", "version", change(retry, version), ErrVersion},
		{"RESP", "good", resp, nil},
		{"RESP", "empty", nil, ErrPacketType},
		{"RESP", "short", resp[:MinResp-1], ErrLength},
		{"RESP", "long", append(change(resp, nothing), make([]byte, MaxResp)...), ErrLength},
		{"RESP", "reserved", change(resp, reserved), ErrReserved},
		{"RESP", "version", change(resp, version), ErrVersion},
		{"VERSIONS", "good", versions, nil},
		{"VERSIONS", "no versions", AppendVersionsPacket(nil, hid, nil), nil},
		{"VERSIONS", "empty", nil, ErrPacketType},
		{"VERSIONS", "no list", versions[:commonLen], ErrLength},
		{"VERSIONS", "short", versions[:len(versions)-1], ErrLength},
		{"VERSIONS", "long", append(change(versions, nothing), 0), ErrLength},
		{"VERSIONS", "reserved", change(versions, reserved), ErrReserved},
		{"VERSIONS", "version", change(versions, version), ErrVersion},
		{"DATA", "good", data, nil},
		{"DATA", "empty", nil, ErrPacketType},
		{"DATA", "other type", retry, ErrPacketType},
		{"DATA", "empty plaintext", data[:Overhead], ErrLength},
	} {
		if err := parse[tc.parser](tc.pkt); !errors.Is(err, tc.want) {
			t.Errorf("%s, %s: got %v, want %v", tc.parser, tc.name, err, tc.want)
		}
	}
}

func TestUnknownVersion(t *testing.T) {
	hid := ID{5}
	pkt := NewInit(make([]byte, InitLen), hid)
	for version, want := range map[uint32]bool{0: false, 1: false, 2: true, 1 << 31: true} {
		binary.BigEndian.PutUint32(pkt[offVersion:], version)
		got, ok := UnknownVersion(pkt)
		if ok != want || ok && got != hid {
			t.Errorf("version %d: %v %v, want %v", version, got, ok, want)
		}
	}
	pkt[1] = 1
	if _, ok := UnknownVersion(pkt); ok {
		t.Error("reserved byte set, yet to be answered")
	}
	pkt[1] = 0
	if _, ok := UnknownVersion(pkt[:InitLen-1]); ok {
		t.Error("short, yet to be answered: that would amplify")
	}
	pkt[0] = TypeData
	if _, ok := UnknownVersion(pkt); ok {
		t.Error("DATA taken for an INIT")
	}
}

func TestDataCounterIs56Bits(t *testing.T) {
	pkt := make([]byte, MinData)
	PutDataHeader(pkt, 1<<60|0x00ab_cdef_0123_4567, ID{1})
	counter, id, err := ParseData(pkt)
	if err != nil || counter != 0x00ab_cdef_0123_4567 || id != (ID{1}) {
		t.Errorf("got %x %v %v", counter, id, err)
	}
}

func FuzzPackets(f *testing.F) {
	v := readVectors(f)
	for _, s := range []string{v.Handshake.Init, v.Handshake.InitWithCookie, v.Handshake.Resp, v.Handshake.Retry, v.Handshake.Versions} {
		f.Add(unhex(f, s))
	}
	for _, d := range v.Data {
		f.Add(unhex(f, d.Packet))
	}
	f.Add([]byte{})
	// A packet that parses is the packet that its parts make.
	f.Fuzz(func(t *testing.T, pkt []byte) {
		same := func(what string, got []byte) {
			if string(got) != string(pkt) {
				t.Fatalf("%s is not what its parts make:\n%x\n%x", what, got, pkt)
			}
		}
		if p, err := ParseInit(pkt); err == nil {
			q := NewInit(make([]byte, InitLen), p.HandshakeID())
			q.SetCookie(p.Cookie())
			q.SetMAC1(p.MAC1())
			copy(q.Noise(), p.Noise())
			same("INIT", q)
			if _, ok := UnknownVersion(pkt); ok {
				t.Fatal("INIT of our version is also of an unknown one")
			}
		}
		if hid, c, err := ParseRetry(pkt); err == nil {
			same("RETRY", AppendRetry(nil, hid, c))
		}
		if hid, noise, err := ParseResp(pkt); err == nil {
			same("RESP", append(AppendRespHeader(nil, hid), noise...))
		}
		if hid, list, err := ParseVersions(pkt); err == nil {
			same("VERSIONS", AppendVersionsPacket(nil, hid, list.AppendTo(nil)))
		}
		if counter, id, err := ParseData(pkt); err == nil {
			var h [HeaderLen]byte
			PutDataHeader(h[:], counter, id)
			same("DATA", append(h[:], pkt[HeaderLen:]...))
		}
	})
}
