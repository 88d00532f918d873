// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFrameFields(t *testing.T) {
	v4 := netip.MustParseAddrPort("192.0.2.1:5")
	v6 := netip.MustParseAddrPort("[2001:db8::1]:6")
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.1]:5")
	noise := [RekeyNoiseLen]byte{47: 9}

	var b []byte
	b = AppendPad(b, 3)
	b = AppendPing(b, 11)
	b = AppendPong(b, 12)
	b = AppendChallenge(b, Cookie{13})
	b = AppendResponse(b, Cookie{14})
	b = AppendNotPreferred(b, Cookie{15})
	b = AppendNewID(b, 16, ID{17}, Token{18})
	b = AppendClose(b, CloseLimit, "why")
	b = AppendObservedAddr(b, mapped)
	b = AppendAddrs(b, []netip.AddrPort{v4, v6})
	b = AppendParams(b, 19, 20)
	b = AppendVersions(b, []uint32{21, 22})
	b = AppendRekeyInit(b, 23, 24, noise)
	b = AppendRekeyResp(b, 25, 26, noise)
	b = AppendExtension(b, 0x47, []byte("ext"))
	b = AppendDatagramLen(b, []byte("len"))
	b = AppendDatagramLen(b, nil)
	b = AppendDatagram(b, []byte("rest"))

	var types []FrameType
	var f Frame
	r := NewFrameReader(b)
	for r.Next(&f) {
		types = append(types, f.Type)
		ok := true
		switch f.Type {
		case FramePing:
			ok = f.Token == 11
		case FramePong:
			ok = f.Token == 12
		case FrameChallenge:
			ok = f.Cookie == Cookie{13}
		case FrameResponse:
			ok = f.Cookie == Cookie{14}
		case FrameNotPreferred:
			ok = f.Cookie == Cookie{15}
		case FrameNewID:
			ok = f.Seq == 16 && f.ID == ID{17} && f.Reset == Token{18}
		case FrameClose:
			ok = f.Code == CloseLimit && f.ReasonText() == "why"
		case FrameObservedAddr:
			ok = f.Addr == v4
		case FrameAddrs:
			ok = slices.Equal(f.Addrs(), []netip.AddrPort{v4, v6})
		case FrameParams:
			ok = f.IdleTimeout == 19 && f.MaxDatagram == 20
		case FrameVersions:
			ok = f.Versions.Len() == 2 && f.Versions.Contains(22) && !f.Versions.Contains(23)
		case FrameRekeyInit:
			ok = f.Epoch == 23 && f.FirstSeq == 24 && f.Noise == noise
		case FrameRekeyResp:
			ok = f.Epoch == 25 && f.FirstSeq == 26 && f.Noise == noise
		case 0x47:
			ok = string(f.Data) == "ext"
		case FrameDatagramLen:
			ok = string(f.Data) == "len" || len(f.Data) == 0
		case FrameDatagram:
			ok = string(f.Data) == "rest"
		}
		if !ok {
			t.Errorf("%v: wrong content", f.Type)
		}
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	want := []FrameType{FramePad, FramePing, FramePong, FrameChallenge, FrameResponse, FrameNotPreferred, FrameNewID,
		FrameClose, FrameObservedAddr, FrameAddrs, FrameParams, FrameVersions, FrameRekeyInit, FrameRekeyResp, 0x47,
		FrameDatagramLen, FrameDatagramLen, FrameDatagram}
	if !slices.Equal(types, want) {
		t.Errorf("got  %v\nwant %v", types, want)
	}
}

// Every proper prefix of a frame with a fixed end is an overrun, never a panic
// and never a shorter frame.
func TestTruncatedFrames(t *testing.T) {
	addr := netip.MustParseAddrPort("[2001:db8::1]:6")
	for _, frame := range [][]byte{
		AppendPing(nil, 1), AppendPong(nil, 1), AppendChallenge(nil, Cookie{}), AppendResponse(nil, Cookie{}),
		AppendNotPreferred(nil, Cookie{}), AppendNewID(nil, 1, ID{}, Token{}), AppendClose(nil, 1, "reason"),
		AppendObservedAddr(nil, addr), AppendAddrs(nil, []netip.AddrPort{addr, addr}), AppendParams(nil, 1, 2),
		AppendVersions(nil, []uint32{1, 2}), AppendDatagramLen(nil, []byte("abc")), AppendExtension(nil, 0xff, []byte("abc")),
		AppendDatagramPart(nil, DatagramPart{1, 0, 2}, nil),
		AppendRekeyInit(nil, 1, 1, [RekeyNoiseLen]byte{}), AppendRekeyResp(nil, 1, 1, [RekeyNoiseLen]byte{}),
	} {
		if err := CheckFrames(frame); err != nil {
			t.Errorf("%x: %v", frame, err)
		}
		for n := 1; n < len(frame); n++ {
			err := CheckFrames(frame[:n])
			var fe *FrameError
			if !errors.Is(err, ErrFrameOverrun) || !errors.As(err, &fe) || byte(fe.Type) != frame[0] {
				t.Errorf("%x: got %v, want an overrun of frame %#x", frame[:n], err, frame[0])
			}
		}
	}
}

func TestFrameValues(t *testing.T) {
	for name, frame := range map[string][]byte{
		"part count 0":      {0x12, 0, 0, 0, 1, 0, 0, 9},
		"part count 1":      {0x12, 0, 0, 0, 1, 0, 1, 9},
		"part count 5":      {0x12, 0, 0, 0, 1, 0, 5, 9},
		"part index 2 of 2": {0x12, 0, 0, 0, 1, 2, 2, 9},
		"family 5":          {0x08, 5, 1, 2, 3, 4, 0, 1},
		"family 0 in ADDRS": {0x09, 1, 0, 1, 2, 3, 4, 0, 1},
		"nine addresses":    append([]byte{0x09, 9}, make([]byte, 9*19)...),
	} {
		err := CheckFrames(frame)
		if !errors.Is(err, ErrFrameValue) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryUnknownType(t *testing.T) {
	for i := range 0x40 {
		typ := FrameType(i)
		err := CheckFrames(append([]byte{byte(i)}, make([]byte, 100)...))
		_, known := frameNames[typ]
		if unknown := errors.Is(err, ErrUnknownFrame); unknown == known {
			t.Errorf("%v: known %v, error %v", typ, known, err)
		}
	}
}

func TestProbingFrames(t *testing.T) {
	for i := range 0x100 {
		typ := FrameType(i)
		want := slices.Contains([]FrameType{0x00, 0x03, 0x04, 0x05, 0x06}, typ)
		if typ.Probing() != want {
			t.Errorf("%v: probing %v", typ, typ.Probing())
		}
	}
}

func TestCloseReason(t *testing.T) {
	long := strings.Repeat("é", 200) // 400 bytes: byte 255 is inside a rune
	b := AppendClose(nil, CloseDone, long)
	var f Frame
	r := NewFrameReader(b)
	if !r.Next(&f) || !utf8.Valid(f.Reason) || len(f.Reason) != 254 {
		t.Errorf("long reason: %d bytes, valid %v, %v", len(f.Reason), utf8.Valid(f.Reason), r.Err())
	}
	f.Reason = []byte("a\x1b[2J\xffz\n")
	if got, want := f.ReasonText(), "a�[2J�z�"; got != want {
		t.Errorf("reason shown as %q, want %q", got, want)
	}
}

func TestReaderAllocatesNothing(t *testing.T) {
	b := AppendNewID(AppendPing(nil, 1), 1, ID{}, Token{})
	b = AppendAddrs(b, []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:6")})
	b = AppendDatagram(b, make([]byte, 1000))
	out := make([]byte, 0, 2000)
	var f Frame
	if n := testing.AllocsPerRun(100, func() {
		r := NewFrameReader(b)
		for r.Next(&f) {
		}
		out = AppendDatagram(AppendPing(out[:0], 1), f.Data)
	}); n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
}

func FuzzFrames(f *testing.F) {
	v := readVectors(f)
	for _, d := range v.Data {
		f.Add(unhex(f, d.Frames))
	}
	for _, bad := range v.BadFrames {
		f.Add(unhex(f, bad.Frames))
	}
	f.Add(unhex(f, v.Handshake.InitFrames))
	f.Add(unhex(f, v.Handshake.RespFrames))
	f.Add([]byte{0x08, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4, 0, 1}) // IPv4-mapped
	// What is read and written again reads the same, and is a fixed point: only
	// the form of an IPv4-mapped address may change, and once.
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		once, err := rewrite(plaintext)
		if err != nil {
			var fe *FrameError
			if !errors.As(err, &fe) {
				t.Fatalf("error is no FrameError: %v", err)
			}
		} else if len(once) > len(plaintext) {
			t.Fatalf("frames grew: %x -> %x", plaintext, once)
		}
		twice, err := rewrite(once)
		if err != nil {
			t.Fatalf("own frames do not read: %x: %v", once, err)
		}
		if string(twice) != string(once) {
			t.Fatalf("no fixed point:\n%x\n%x", once, twice)
		}
	})
}

func BenchmarkReadDatagram(b *testing.B) {
	plaintext := AppendDatagram(nil, make([]byte, 1200))
	var f Frame
	b.ReportAllocs()
	for b.Loop() {
		r := NewFrameReader(plaintext)
		for r.Next(&f) {
		}
	}
}
