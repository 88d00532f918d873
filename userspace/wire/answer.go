// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

const (
	// RetryLen is the length of every RETRY.
	RetryLen = 40
	// MinResp is the shortest RESP: e, a status, flags and the tag.
	MinResp = commonLen + EphemeralLen + 4 + TagLen
	// MaxResp is the longest RESP, no more than the INIT that it answers.
	MaxResp = InitLen
	// MaxVersions bounds the list of VERSIONS, packet and frame.
	MaxVersions = 255
)

// AppendRetry appends a RETRY to b.
func AppendRetry(b []byte, hid ID, c Cookie) []byte {
	b = appendCommon(b, TypeRetry, Version1, hid)
	return append(b, c[:]...)
}

// ParseRetry reads a RETRY. It fails with ErrPacketType, ErrLength, ErrReserved
// or ErrVersion.
func ParseRetry(pkt []byte) (hid ID, c Cookie, err error) {
	if len(pkt) == 0 || pkt[0] != TypeRetry {
		return ID{}, Cookie{}, ErrPacketType
	}
	if len(pkt) != RetryLen {
		return ID{}, Cookie{}, ErrLength
	}
	if err := checkCommon(pkt, Version1); err != nil {
		return ID{}, Cookie{}, err
	}
	return ID(pkt[offHandshakeID:commonLen]), Cookie(pkt[commonLen:RetryLen]), nil
}

// AppendRespHeader appends the first 24 bytes of a RESP; its Noise message
// follows them.
func AppendRespHeader(b []byte, hid ID) []byte {
	return appendCommon(b, TypeResp, Version1, hid)
}

// ParseResp reads a RESP: whose it is, and the Noise message, which aliases pkt.
// It fails with ErrPacketType, ErrLength, ErrReserved or ErrVersion.
func ParseResp(pkt []byte) (hid ID, noise []byte, err error) {
	if len(pkt) == 0 || pkt[0] != TypeResp {
		return ID{}, nil, ErrPacketType
	}
	if len(pkt) < MinResp || len(pkt) > MaxResp {
		return ID{}, nil, ErrLength
	}
	if err := checkCommon(pkt, Version1); err != nil {
		return ID{}, nil, err
	}
	return ID(pkt[offHandshakeID:commonLen]), pkt[commonLen:], nil
}

// AppendVersionsPacket appends a VERSIONS packet with at most MaxVersions of the
// versions.
func AppendVersionsPacket(b []byte, hid ID, versions []uint32) []byte {
	b = appendCommon(b, TypeVersions, 0, hid)
	return appendVersionList(b, versions)
}

// ParseVersions reads a VERSIONS packet. It fails with ErrPacketType, ErrLength,
// ErrReserved or ErrVersion.
func ParseVersions(pkt []byte) (hid ID, list VersionList, err error) {
	if len(pkt) == 0 || pkt[0] != TypeVersions {
		return ID{}, nil, ErrPacketType
	}
	if len(pkt) < commonLen+1 || len(pkt) != commonLen+1+4*int(pkt[commonLen]) {
		return ID{}, nil, ErrLength
	}
	if err := checkCommon(pkt, 0); err != nil {
		return ID{}, nil, err
	}
	return ID(pkt[offHandshakeID:commonLen]), VersionList(pkt[commonLen+1:]), nil
}

// VersionList is the list of a VERSIONS packet or frame, still in its bytes.
type VersionList []byte

// Len returns the number of versions.
func (l VersionList) Len() int { return len(l) / 4 }

// At returns version i, counted from 0. It panics outside of the list.
func (l VersionList) At(i int) uint32 { return binary.BigEndian.Uint32(l[4*i:]) }

// Contains reports whether v is in the list.
func (l VersionList) Contains(v uint32) bool {
	for i := range l.Len() {
		if l.At(i) == v {
			return true
		}
	}
	return false
}

// AppendTo appends the versions to dst.
func (l VersionList) AppendTo(dst []uint32) []uint32 {
	for i := range l.Len() {
		dst = append(dst, l.At(i))
	}
	return dst
}

func appendVersionList(b []byte, versions []uint32) []byte {
	versions = versions[:min(len(versions), MaxVersions)]
	b = append(b, byte(len(versions)))
	for _, v := range versions {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func appendCommon(b []byte, typ byte, version uint32, hid ID) []byte {
	var h [commonLen]byte
	putCommon(h[:], typ, version, hid)
	return append(b, h[:]...)
}
