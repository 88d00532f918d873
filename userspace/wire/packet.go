// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
)

// The first byte of a packet, chosen so that ROAM, DTLS and QUIC can share a
// port (RFC 7983, RFC 9443).
const (
	TypeInit     byte = 0x08
	TypeRetry    byte = 0x09
	TypeResp     byte = 0x0A
	TypeVersions byte = 0x0B
	TypeData     byte = 0x0C
	// TypeGrease is sent to keep the unassigned space open; receivers ignore it.
	TypeGrease byte = 0x0F
)

const (
	// Version1 is the only version of this package.
	Version1 uint32 = 1
	// DefaultPort is the UDP "mobility port".
	DefaultPort = 7626

	// HeaderLen is the length of a DATA header: type, counter, id. It is also the
	// AEAD's additional data.
	HeaderLen = 24
	// TagLen is the length of the AEAD tag.
	TagLen = 16
	// Overhead is what DATA adds to its frames.
	Overhead = HeaderLen + TagLen
	// MinData is the smallest DATA packet: one byte of frames.
	MinData = Overhead + 1
	// MaxPacket is the largest packet that is sent or received, in bytes of UDP
	// payload: what a 9000-byte jumbo frame carries over IPv4. The search for the
	// path MTU stops here, so receive buffers need no more.
	MaxPacket = 9000 - 20 - 8

	// InitialMTU4 and InitialMTU6 are the UDP payload that every path is taken to
	// carry before the path MTU is known: a 1280-byte packet.
	InitialMTU4 = 1280 - 20 - 8
	InitialMTU6 = 1280 - 40 - 8

	// MaxCounter bounds the packets of an id: counters are below it. A receiver
	// drops the others before it decrypts, a sender has moved to another id.
	MaxCounter = 1 << 28
	// MaxIDBytes bounds the bytes that an id carries.
	MaxIDBytes = 1 << 38
)

// Why a packet is not what its parser expected.
var (
	ErrPacketType = errors.New("packet is of another type")
	ErrLength     = errors.New("packet has an impossible length")
	ErrReserved   = errors.New("packet has reserved bytes that are not zero")
	ErrVersion    = errors.New("packet is of an unknown version")
)

// PutDataHeader writes the header of a DATA packet into b[:HeaderLen]. Only the
// low 56 bits of the counter are sent. It panics if b is shorter.
func PutDataHeader(b []byte, counter uint64, id ID) {
	_ = b[HeaderLen-1]
	binary.BigEndian.PutUint64(b, uint64(TypeData)<<56|counter&(1<<56-1))
	copy(b[8:HeaderLen], id[:])
}

// ParseData reads the header of a DATA packet. It fails with ErrPacketType, or
// with ErrLength below MinData: an empty plaintext has no meaning.
func ParseData(pkt []byte) (counter uint64, id ID, err error) {
	if len(pkt) == 0 || pkt[0] != TypeData {
		return 0, ID{}, ErrPacketType
	}
	if len(pkt) < MinData {
		return 0, ID{}, ErrLength
	}
	return binary.BigEndian.Uint64(pkt) & (1<<56 - 1), ID(pkt[8:HeaderLen]), nil
}

// Offsets that INIT, RETRY, RESP and VERSIONS have in common.
const (
	offVersion     = 4
	offHandshakeID = 8
	commonLen      = 24
)

// putCommon writes type, zeros, version and handshake id into b[:commonLen].
func putCommon(b []byte, typ byte, version uint32, hid ID) {
	binary.BigEndian.PutUint32(b, uint32(typ)<<24)
	binary.BigEndian.PutUint32(b[offVersion:], version)
	copy(b[offHandshakeID:commonLen], hid[:])
}

// checkCommon checks what comes before the handshake id of a packet whose length
// is already known to be at least commonLen.
func checkCommon(pkt []byte, version uint32) error {
	if pkt[1]|pkt[2]|pkt[3] != 0 {
		return ErrReserved
	}
	if binary.BigEndian.Uint32(pkt[offVersion:]) != version {
		return ErrVersion
	}
	return nil
}
