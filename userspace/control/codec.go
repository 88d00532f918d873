// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A list of a million sessions is to be there in two seconds, of which
// encoding/json alone would take several: sessions are written by hand, once as
// the JSON that their tags say, once in a binary form that a command asks for.
//
// The binary form of a session is its fields in the order below; those of a later
// version come after them, and to a reader a field that is missing at the end is
// zero. Numbers are varints, texts and addresses have their length before them.

// AppendBinary appends the binary form.
func (s *Session) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, s.ID[:]...)
	b = append(b, s.CurrentID[:]...)
	b = append(b, s.PeerKey[:]...)
	b = appendText(b, s.PeerName)
	b = binary.AppendUvarint(b, uint64(s.Service))
	b = appendText(b, s.State)
	b = binary.AppendUvarint(b, uint64(s.Owner))
	b = appendAddr(b, s.Remote)
	b = appendAddr(b, s.Local)
	b = binary.AppendUvarint(b, uint64(len(s.Candidates)))
	for _, c := range s.Candidates {
		b = appendAddr(b, c)
	}
	for _, t := range [...]time.Time{s.Started, s.LastReceived, s.LastMove} {
		b = appendTime(b, t)
	}
	for _, n := range [...]uint64{
		s.Moves, s.MovesRefused, s.MovesReverted, s.ForwardingAlarms, uint64(s.RTT), uint64(s.PathMTU),
		s.PacketsReceived, s.PacketsSent, s.BytesReceived, s.BytesSent, s.DatagramsReceived, s.DatagramsSent,
	} {
		b = binary.AppendUvarint(b, n)
	}
	return b, nil
}

var errBinary = errors.New("not the binary form of a session")

// UnmarshalBinary sets every field of s; nothing in it refers to b afterwards.
func (s *Session) UnmarshalBinary(b []byte) error {
	r := binaryReader{rest: b}
	copy(s.ID[:], r.take(len(s.ID)))
	copy(s.CurrentID[:], r.take(len(s.CurrentID)))
	copy(s.PeerKey[:], r.take(len(s.PeerKey)))
	s.PeerName = string(r.text())
	s.Service = uint16(r.number(math.MaxUint16))
	s.State = stateText(r.text())
	s.Owner = int(r.number(math.MaxInt32))
	s.Remote, s.Local = r.addr(), r.addr()
	s.Candidates = s.Candidates[:0]
	for range r.number(uint64(len(b))) {
		s.Candidates = append(s.Candidates, r.addr())
	}
	if s.Candidates == nil {
		s.Candidates = []netip.AddrPort{}
	}
	for _, t := range [...]*time.Time{&s.Started, &s.LastReceived, &s.LastMove} {
		*t = r.time()
	}
	for _, n := range [...]*uint64{&s.Moves, &s.MovesRefused, &s.MovesReverted, &s.ForwardingAlarms} {
		*n = r.number(math.MaxUint64)
	}
	s.RTT, s.PathMTU = int64(r.number(math.MaxInt64)), int(r.number(math.MaxInt32))
	for _, n := range [...]*uint64{
		&s.PacketsReceived, &s.PacketsSent, &s.BytesReceived, &s.BytesSent, &s.DatagramsReceived, &s.DatagramsSent,
	} {
		*n = r.number(math.MaxUint64)
	}
	if r.bad || len(b) < wire.IDLen {
		return errBinary
	}
	return nil
}

// stateText spares a copy of what is nearly always the same.
func stateText(text []byte) string {
	if string(text) == StateOpen {
		return StateOpen
	}
	return string(text)
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendAddr(b []byte, a netip.AddrPort) []byte {
	at := len(b)
	b = append(b, 0)
	b, _ = a.AppendBinary(b)
	b[at] = byte(min(len(b)-at-1, math.MaxUint8)) // an IPv6 zone is an interface's name: 15 bytes
	return b
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, 0)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

// binaryReader reads fields off the front of rest. At the end all are zero; one
// that is cut or out of range makes it bad.
type binaryReader struct {
	rest []byte
	bad  bool
}

func (r *binaryReader) take(n int) []byte {
	if len(r.rest) == 0 {
		return nil
	}
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	field := r.rest[:n]
	r.rest = r.rest[n:]
	return field
}

func (r *binaryReader) number(most uint64) uint64 {
	if len(r.rest) == 0 {
		return 0
	}
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > most {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *binaryReader) text() []byte { return r.take(int(r.number(math.MaxUint16))) }

func (r *binaryReader) addr() (a netip.AddrPort) {
	if field := r.text(); len(field) > 0 && a.UnmarshalBinary(field) != nil {
		r.bad = true
	}
	return a
}

func (r *binaryReader) time() time.Time {
	if len(r.rest) == 0 {
		return time.Time{}
	}
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return time.Time{}
	}
	r.rest = r.rest[size:]
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// AppendJSON appends what encoding/json makes of s, without its escapes of <, > and &.
func (s *Session) AppendJSON(b []byte) []byte {
	b = appendHex(append(b, `{"id":"`...), s.ID[:])
	b = appendHex(append(b, `","current_id":"`...), s.CurrentID[:])
	b = base64.StdEncoding.AppendEncode(append(b, `","peer_key":"`...), s.PeerKey[:])
	b = append(b, '"')
	if s.PeerName != "" {
		b = appendString(append(b, `,"peer_name":`...), s.PeerName)
	}
	b = strconv.AppendUint(append(b, `,"service":`...), uint64(s.Service), 10)
	b = appendString(append(b, `,"state":`...), s.State)
	b = strconv.AppendInt(append(b, `,"owner":`...), int64(s.Owner), 10)
	b = appendAddrJSON(append(b, `,"remote":`...), s.Remote)
	b = appendAddrJSON(append(b, `,"local":`...), s.Local)
	b = append(b, `,"candidates":[`...)
	for i, c := range s.Candidates {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendAddrJSON(b, c)
	}
	b = appendTimeJSON(append(b, `],"started":`...), s.Started)
	b = appendTimeJSON(append(b, `,"last_received":`...), s.LastReceived)
	if !s.LastMove.IsZero() {
		b = appendTimeJSON(append(b, `,"last_move":`...), s.LastMove)
	}
	for _, f := range [...]struct {
		name  string
		value uint64
	}{
		{`,"moves":`, s.Moves}, {`,"moves_refused":`, s.MovesRefused}, {`,"moves_reverted":`, s.MovesReverted},
		{`,"forwarding_alarms":`, s.ForwardingAlarms}, {`,"rtt_ns":`, uint64(s.RTT)}, {`,"path_mtu_bytes":`, uint64(s.PathMTU)},
		{`,"packets_received":`, s.PacketsReceived}, {`,"packets_sent":`, s.PacketsSent},
		{`,"bytes_received":`, s.BytesReceived}, {`,"bytes_sent":`, s.BytesSent},
		{`,"datagrams_received":`, s.DatagramsReceived}, {`,"datagrams_sent":`, s.DatagramsSent},
	} {
		b = strconv.AppendUint(append(b, f.name...), f.value, 10)
	}
	return append(b, '}')
}

func appendHex(b, raw []byte) []byte { return hex.AppendEncode(b, raw) }

func appendAddrJSON(b []byte, a netip.AddrPort) []byte {
	b = append(b, '"')
	if a.IsValid() {
		b = a.AppendTo(b)
	}
	return append(b, '"')
}

func appendTimeJSON(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// appendString quotes text: by encoding/json where anything in it needs an escape.
func appendString(b []byte, text string) []byte {
	plain := func(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }
	if slices.ContainsFunc([]byte(text), func(c byte) bool { return !plain(c) }) {
		quoted, _ := json.Marshal(text) // a string always can be
		return append(b, quoted...)
	}
	return append(append(append(b, '"'), text...), '"')
}
