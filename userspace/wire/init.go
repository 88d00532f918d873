// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// The layout of INIT.
const (
	// InitLen is the length of every INIT. It is the most that an unproven address
	// can be answered, and it shows that the path carries such packets.
	InitLen = 1200
	// InitPayloadLen is the plaintext in INIT's Noise message.
	InitPayloadLen = 1056
	// EphemeralLen is the length of the Noise e in INIT and RESP.
	EphemeralLen = 32
	// MAC1Len is the length of mac1.
	MAC1Len = 8
	// MAC1InputLen is the length of what mac1 is computed over.
	MAC1InputLen = 20 + 32

	offInitCookie = 24
	offInitMAC1   = 40
	offInitNoise  = 48
)

// Init is a 1200-byte INIT packet. Get one from ParseInit or NewInit: the
// methods panic on anything shorter.
type Init []byte

// NewInit lays out an INIT without a cookie in buf[:InitLen], except for mac1
// and the Noise message, which the caller writes to Noise() and SetMAC1. It
// panics if buf is shorter.
func NewInit(buf []byte, hid ID) Init {
	p := buf[:InitLen]
	putCommon(p, TypeInit, Version1, hid)
	clear(p[offInitCookie:offInitNoise])
	return p
}

// ParseInit checks type, length, reserved bytes and version, in that order, and
// fails with the error of that name. It verifies no mac1 and no cookie.
func ParseInit(pkt []byte) (Init, error) {
	if len(pkt) == 0 || pkt[0] != TypeInit {
		return nil, ErrPacketType
	}
	if len(pkt) != InitLen {
		return nil, ErrLength
	}
	if err := checkCommon(pkt, Version1); err != nil {
		return nil, err
	}
	return pkt, nil
}

// UnknownVersion reports whether pkt is an INIT that VERSIONS answers: of the
// right size, its reserved bytes zero, and of a version that is neither ours
// nor 0 (which would let two servers answer each other).
func UnknownVersion(pkt []byte) (hid ID, ok bool) {
	if len(pkt) != InitLen || pkt[0] != TypeInit || pkt[1]|pkt[2]|pkt[3] != 0 {
		return ID{}, false
	}
	switch binary.BigEndian.Uint32(pkt[offVersion:]) {
	case 0, Version1:
		return ID{}, false
	}
	return ID(pkt[offHandshakeID:commonLen]), true
}

// HandshakeID returns the id of this attempt.
func (p Init) HandshakeID() ID { return ID(p[offHandshakeID:commonLen]) }

// Cookie returns the cookie; all zero means none.
func (p Init) Cookie() Cookie { return Cookie(p[offInitCookie:offInitMAC1]) }

// SetCookie puts a cookie in place. Neither mac1 nor the Noise message covers
// it, so nothing else changes.
func (p Init) SetCookie(c Cookie) { copy(p[offInitCookie:offInitMAC1], c[:]) }

// MAC1 returns mac1.
func (p Init) MAC1() [MAC1Len]byte { return [MAC1Len]byte(p[offInitMAC1:offInitNoise]) }

// SetMAC1 puts mac1 in place.
func (p Init) SetMAC1(m [MAC1Len]byte) { copy(p[offInitMAC1:offInitNoise], m[:]) }

// MAC1Input returns what mac1 is computed over: version, handshake id and e.
func (p Init) MAC1Input() (in [MAC1InputLen]byte) {
	n := copy(in[:], p[offVersion:commonLen])
	copy(in[n:], p[offInitNoise:offInitNoise+EphemeralLen])
	return in
}

// Ephemeral returns the Noise e.
func (p Init) Ephemeral() [EphemeralLen]byte {
	return [EphemeralLen]byte(p[offInitNoise : offInitNoise+EphemeralLen])
}

// Header returns bytes 0 to 23, which the Noise prologue covers.
func (p Init) Header() []byte { return p[:commonLen:commonLen] }

// Noise returns the room for the Noise message, the rest of the packet.
func (p Init) Noise() []byte { return p[offInitNoise:InitLen:InitLen] }
