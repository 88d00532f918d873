// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"net/netip"
	"strings"
	"unicode"
)

// FrameType is the first byte of a frame.
type FrameType byte

// The frames of ROAM/1. 0x22 to 0x2F are reserved for a post-quantum KEM and
// are unknown until then.
const (
	FramePad          FrameType = 0x00
	FramePing         FrameType = 0x01
	FramePong         FrameType = 0x02
	FrameChallenge    FrameType = 0x03
	FrameResponse     FrameType = 0x04
	FrameNotPreferred FrameType = 0x05
	FrameNewID        FrameType = 0x06
	FrameClose        FrameType = 0x07
	FrameObservedAddr FrameType = 0x08
	FrameAddrs        FrameType = 0x09
	FrameParams       FrameType = 0x0A
	FrameVersions     FrameType = 0x0B
	FrameDatagram     FrameType = 0x10
	FrameDatagramLen  FrameType = 0x11
	FrameDatagramPart FrameType = 0x12
	FrameRekeyInit    FrameType = 0x20
	FrameRekeyResp    FrameType = 0x21
	// FrameExtension is the first of the extension types, each with a length, so
	// that a receiver can skip what it does not know.
	FrameExtension FrameType = 0x40
)

const (
	// MaxAddrs is the most addresses of one ADDRS.
	MaxAddrs = 8
	// MaxReason is the longest reason of a CLOSE in bytes.
	MaxReason = 255
	// MaxParts is the most parts of one datagram.
	MaxParts = 4
	// RekeyNoiseLen is the length of a Noise message of NNpsk0 without payload.
	RekeyNoiseLen = 48

	// PingLen, ChallengeLen and NewIDLen are whole frames in bytes; Challenge
	// stands for RESPONSE and NOT_PREFERRED too.
	PingLen      = 1 + 8
	ChallengeLen = 1 + 16
	NewIDLen     = 1 + 4 + IDLen + 16
	// DatagramLenHeader and DatagramPartHeader come before the data of those
	// frames; a DATAGRAM has its type byte alone.
	DatagramLenHeader  = 1 + 2
	DatagramPartHeader = 1 + 4 + 1 + 1
)

// Probing reports whether a packet of only such frames is a probing packet,
// which moves neither the path nor the newest gate nor the retirement of ids.
func (t FrameType) Probing() bool {
	switch t {
	case FramePad, FrameChallenge, FrameResponse, FrameNotPreferred, FrameNewID:
		return true
	}
	return false
}

// Extension reports whether the type is one of the extensions.
func (t FrameType) Extension() bool { return t >= FrameExtension }

var frameNames = map[FrameType]string{
	FramePad: "PAD", FramePing: "PING", FramePong: "PONG", FrameChallenge: "CHALLENGE",
	FrameResponse: "RESPONSE", FrameNotPreferred: "NOT_PREFERRED", FrameNewID: "NEW_ID",
	FrameClose: "CLOSE", FrameObservedAddr: "OBSERVED_ADDR", FrameAddrs: "ADDRS",
	FrameParams: "PARAMS", FrameVersions: "VERSIONS", FrameDatagram: "DATAGRAM",
	FrameDatagramLen: "DATAGRAM_LEN", FrameDatagramPart: "DATAGRAM_PART",
	FrameRekeyInit: "REKEY_INIT", FrameRekeyResp: "REKEY_RESP",
}

// String returns the name in docs/PROTOCOL.md, or the number.
func (t FrameType) String() string {
	if s, ok := frameNames[t]; ok {
		return s
	}
	if t.Extension() {
		return "extension " + hexByte(byte(t))
	}
	return "frame " + hexByte(byte(t))
}

// DatagramPart places the data of a DATAGRAM_PART: Index < Count, Count 2 to 4.
type DatagramPart struct {
	Number uint32
	Index  uint8
	Count  uint8
}

// Frame is any frame, as a flat union so that reading one allocates nothing.
// Only the fields that the comments name for its type mean anything; others keep
// what an earlier frame left there.
type Frame struct {
	Type FrameType

	Token  uint64 // PING, PONG
	Cookie Cookie // CHALLENGE, RESPONSE, NOT_PREFERRED

	Seq   uint32 // NEW_ID
	ID    ID     // NEW_ID
	Reset Token  // NEW_ID

	Code   CloseCode // CLOSE
	Reason []byte    // CLOSE; as it came: show ReasonText instead

	Addr   netip.AddrPort // OBSERVED_ADDR; unmapped
	addrs  [MaxAddrs]netip.AddrPort
	naddrs int

	IdleTimeout uint32 // PARAMS; seconds
	MaxDatagram uint16 // PARAMS; bytes

	Versions VersionList // VERSIONS

	Part DatagramPart // DATAGRAM_PART

	Epoch    uint32              // REKEY_INIT, REKEY_RESP
	FirstSeq uint32              // REKEY_INIT, REKEY_RESP
	Noise    [RekeyNoiseLen]byte // REKEY_INIT, REKEY_RESP

	// Data is the content of the DATAGRAM frames and the body of an extension,
	// aliasing the packet.
	Data []byte
}

// Addrs returns the addresses of an ADDRS, unmapped. They are overwritten by the
// next frame that is read into f.
func (f *Frame) Addrs() []netip.AddrPort { return f.addrs[:f.naddrs] }

// ReasonText returns the reason of a CLOSE as text that is safe to show: what is
// not UTF-8 or not printable is replaced, since the peer chose the bytes.
func (f *Frame) ReasonText() string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, string(f.Reason))
}
