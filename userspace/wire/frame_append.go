// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"math"
	"net/netip"
	"unicode/utf8"
)

// AppendPad appends n bytes of PAD.
func AppendPad(b []byte, n int) []byte {
	for range n {
		b = append(b, byte(FramePad))
	}
	return b
}

// AppendPing appends a PING.
func AppendPing(b []byte, token uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, byte(FramePing)), token)
}

// AppendPong appends a PONG.
func AppendPong(b []byte, token uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, byte(FramePong)), token)
}

// AppendChallenge appends a CHALLENGE.
func AppendChallenge(b []byte, c Cookie) []byte {
	return append(append(b, byte(FrameChallenge)), c[:]...)
}

// AppendResponse appends a RESPONSE with the challenge's cookie.
func AppendResponse(b []byte, c Cookie) []byte {
	return append(append(b, byte(FrameResponse)), c[:]...)
}

// AppendNotPreferred appends a NOT_PREFERRED with the challenge's cookie.
func AppendNotPreferred(b []byte, c Cookie) []byte {
	return append(append(b, byte(FrameNotPreferred)), c[:]...)
}

// AppendNewID appends a NEW_ID.
func AppendNewID(b []byte, seq uint32, id ID, reset Token) []byte {
	b = binary.BigEndian.AppendUint32(append(b, byte(FrameNewID)), seq)
	return append(append(b, id[:]...), reset[:]...)
}

// AppendClose appends a CLOSE. A reason longer than MaxReason is cut at the end
// of a rune.
func AppendClose(b []byte, code CloseCode, reason string) []byte {
	if len(reason) > MaxReason {
		n := MaxReason
		for n > 0 && !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	b = binary.BigEndian.AppendUint16(append(b, byte(FrameClose)), uint16(code))
	return append(append(b, byte(len(reason))), reason...)
}

// AppendObservedAddr appends an OBSERVED_ADDR; addr must be valid.
func AppendObservedAddr(b []byte, addr netip.AddrPort) []byte {
	return appendAddr(append(b, byte(FrameObservedAddr)), addr)
}

// AppendAddrs appends an ADDRS with at most MaxAddrs of the addresses, all of
// which must be valid.
func AppendAddrs(b []byte, addrs []netip.AddrPort) []byte {
	addrs = addrs[:min(len(addrs), MaxAddrs)]
	b = append(b, byte(FrameAddrs), byte(len(addrs)))
	for _, a := range addrs {
		b = appendAddr(b, a)
	}
	return b
}

// AppendParams appends a PARAMS: the idle timeout in seconds and the largest
// datagram that the sender accepts in bytes.
func AppendParams(b []byte, idleTimeout uint32, maxDatagram uint16) []byte {
	b = binary.BigEndian.AppendUint32(append(b, byte(FrameParams)), idleTimeout)
	return binary.BigEndian.AppendUint16(b, maxDatagram)
}

// AppendVersions appends a VERSIONS frame with at most MaxVersions of the
// versions.
func AppendVersions(b []byte, versions []uint32) []byte {
	return appendVersionList(append(b, byte(FrameVersions)), versions)
}

// AppendDatagram appends a DATAGRAM, which takes the rest of the packet: nothing
// may be appended after it.
func AppendDatagram(b, data []byte) []byte {
	return append(append(b, byte(FrameDatagram)), data...)
}

// AppendDatagramLen appends a DATAGRAM_LEN. It panics if data does not fit its
// 16-bit length, as no packet could carry it.
func AppendDatagramLen(b, data []byte) []byte {
	return appendSized(b, FrameDatagramLen, data)
}

// AppendDatagramPart appends a DATAGRAM_PART, which takes the rest of the
// packet.
func AppendDatagramPart(b []byte, p DatagramPart, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, byte(FrameDatagramPart)), p.Number)
	return append(append(b, p.Index, p.Count), data...)
}

// AppendRekeyInit appends a REKEY_INIT.
func AppendRekeyInit(b []byte, epoch, firstSeq uint32, noise [RekeyNoiseLen]byte) []byte {
	return appendRekey(b, FrameRekeyInit, epoch, firstSeq, noise)
}

// AppendRekeyResp appends a REKEY_RESP.
func AppendRekeyResp(b []byte, epoch, firstSeq uint32, noise [RekeyNoiseLen]byte) []byte {
	return appendRekey(b, FrameRekeyResp, epoch, firstSeq, noise)
}

// AppendExtension appends an extension frame. It panics if t is below
// FrameExtension or the body does not fit its 16-bit length.
func AppendExtension(b []byte, t FrameType, body []byte) []byte {
	if !t.Extension() {
		panic("wire: extension frame of type " + hexByte(byte(t)))
	}
	return appendSized(b, t, body)
}

func appendSized(b []byte, t FrameType, data []byte) []byte {
	if len(data) > math.MaxUint16 {
		panic("wire: frame data longer than 65535 bytes")
	}
	b = binary.BigEndian.AppendUint16(append(b, byte(t)), uint16(len(data)))
	return append(b, data...)
}

func appendRekey(b []byte, t FrameType, epoch, firstSeq uint32, noise [RekeyNoiseLen]byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, byte(t)), epoch)
	b = binary.BigEndian.AppendUint32(b, firstSeq)
	return append(b, noise[:]...)
}

func appendAddr(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		v4 := ip.As4()
		b = append(append(b, 4), v4[:]...)
	} else {
		v6 := ip.As16()
		b = append(append(b, 6), v6[:]...)
	}
	return binary.BigEndian.AppendUint16(b, a.Port())
}
