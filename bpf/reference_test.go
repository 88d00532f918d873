// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"encoding/binary"
	"net/netip"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// reference is the data plane once more, in plain Go over slices: what
// roam_xdp must find in a frame, with every bucket full. It is written from
// ARCHITECTURE.md and PROTOCOL.md, without a fast path.
type reference struct {
	listeners map[netip.AddrPort]bool
	keys      [4]bpf.RoamRoamSipkey
	serverID  uint16
	sessions  map[sessionID]session
	mac1      handshake.MAC1Key
	cookies   *handshake.Cookies
	now       uint32
	always    bool // a cookie is demanded of every INIT
}

// datagram is what is left of a frame when its headers are off.
type datagram struct {
	src, dst netip.AddrPort
	plain    bool
	unicast  bool
	payload  []byte
	short    bool
}

func (r *reference) judge(b []byte) bpf.RoamRoamReason {
	d, reason := referenceParse(b)
	if reason >= 0 {
		return bpf.RoamRoamReason(reason)
	}
	if !r.listeners[d.dst] {
		return reasonNotListener
	}
	if d.short || len(d.payload) == 0 {
		return reasonShort
	}
	if d.src.Port() == 0 {
		return reasonSourcePortZero
	}
	switch first := d.payload[0]; {
	case first == wire.TypeInit:
		return r.init(d)
	case first == wire.TypeData:
		if len(d.payload) < 41 {
			return reasonShort
		}
		return r.roam(sessionID(d.payload[8:24]), d.src)
	case first >= 0x09 && first <= 0x0b:
		return reasonDirection
	case first >= 0x0d && first <= 0x0f:
		return reasonGrease
	case first == 25:
		return r.foreign(d.payload, 11, bpf.RoamRoamKindROAM_KIND_DTLS, reasonDTLS)
	case first >= 32 && first < 64 && first&0x10 != 0:
		return r.foreign(d.payload, 1, bpf.RoamRoamKindROAM_KIND_DTLS, reasonDTLS)
	case first >= 20 && first < 64:
		return reasonDTLS
	case first >= 64 && first < 128:
		return r.foreign(d.payload, 1, bpf.RoamRoamKindROAM_KIND_QUIC, reasonQUIC)
	case first >= 192:
		if len(d.payload) < 6 || d.payload[5] == 16 && len(d.payload) < 22 {
			return reasonShort
		}
		return reasonQUIC // a client's own id need not be ours
	}
	return reasonUnknown
}

func (r *reference) ours(id sessionID) bool {
	key := r.keys[id[3]>>4&3]
	if key == (bpf.RoamRoamSipkey{}) {
		return false
	}
	return binary.LittleEndian.Uint32(id[12:]) == uint32(sip13(key, id[:12]))^uint32(r.serverID)
}

func (r *reference) roam(id sessionID, src netip.AddrPort) bpf.RoamRoamReason {
	if !r.ours(id) {
		return reasonForged
	}
	s, ok := r.sessions[id]
	switch {
	case !ok || s.kind != bpf.RoamRoamKindROAM_KIND_ROAM:
		return reasonReset
	case s.path == src:
		return reasonMain
	}
	return reasonCandidate
}

func (r *reference) foreign(payload []byte, at int, kind bpf.RoamRoamKind, reason bpf.RoamRoamReason) bpf.RoamRoamReason {
	if len(payload) < at+16 {
		return reasonShort
	}
	if !r.ours(sessionID(payload[at : at+16])) {
		return reasonForged
	}
	return reason
}

func (r *reference) init(d datagram) bpf.RoamRoamReason {
	b := d.payload
	if len(b) != 1200 || b[1]|b[2]|b[3] != 0 {
		return reasonInitMalformed
	}
	switch binary.BigEndian.Uint32(b[4:]) {
	case 0:
		return reasonInitMalformed
	case 1:
	default:
		return reasonInitVersion
	}
	if !r.mac1.Verify(b) {
		return reasonMAC1
	}
	if r.cookies.Valid(r.now, wire.Cookie(b[cookieAt:mac1At]), handshakeID(b), d.src, d.dst) {
		return reasonInitCookie
	}
	switch {
	case !r.always:
		return reasonInit
	case !d.plain:
		return reasonInitSlow
	case !d.unicast:
		return reasonRetryFailed
	}
	return reasonRetry
}

// referenceParse takes the headers off, or says why the frame is not ours to judge.
func referenceParse(b []byte) (d datagram, reason int) {
	pass := func(r bpf.RoamRoamReason) (datagram, int) { return d, int(r) }
	d.unicast = b[0]&1 == 0 && b[6]&1 == 0
	ether, rest := binary.BigEndian.Uint16(b[12:]), b[14:]
	for range 2 {
		if ether != etherVLAN && ether != etherQinQ {
			break
		}
		if len(rest) < 4 {
			return pass(reasonNotIP)
		}
		ether, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	var src, dst netip.Addr
	var segment []byte
	switch ether {
	case etherVLAN, etherQinQ:
		return pass(reasonVLANDepth)
	case etherIPv4:
		if len(rest) < 20 {
			return pass(reasonIPMalformed)
		}
		header, total := int(rest[0]&15)*4, int(binary.BigEndian.Uint16(rest[2:]))
		if rest[0]>>4 != 4 || header < 20 || total < header || total > len(rest) {
			return pass(reasonIPMalformed)
		}
		if rest[9] != protoUDP {
			return pass(reasonNotUDP)
		}
		if binary.BigEndian.Uint16(rest[6:])&0x3fff != 0 {
			return pass(reasonFragment)
		}
		src, dst = netip.AddrFrom4([4]byte(rest[12:])), netip.AddrFrom4([4]byte(rest[16:]))
		d.plain, segment = header == 20, rest[header:total]
	case etherIPv6:
		if len(rest) < 40 {
			return pass(reasonIPMalformed)
		}
		total := 40 + int(binary.BigEndian.Uint16(rest[4:]))
		src, dst = netip.AddrFrom16([16]byte(rest[8:])), netip.AddrFrom16([16]byte(rest[24:]))
		if rest[0]>>4 != 6 || total > len(rest) || src.Is4In6() {
			return pass(reasonIPMalformed)
		}
		dst = dst.Unmap()
		d.plain = rest[6] == protoUDP
		at, why := referenceExtensions(b, len(b)-len(rest), rest[6])
		if why >= 0 {
			return d, why
		}
		at -= len(b) - len(rest)
		if at > total {
			return pass(reasonIPMalformed)
		}
		segment = rest[at:total]
	default:
		return pass(reasonNotIP)
	}
	if len(segment) < 8 {
		return pass(reasonIPMalformed)
	}
	length := int(binary.BigEndian.Uint16(segment[4:]))
	d.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(segment))
	d.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(segment[2:]))
	d.unicast = d.unicast && referenceUnicast(src) && referenceUnicast(dst)
	if length < 8 || length > len(segment) {
		d.short = true
		return d, -1
	}
	d.payload = segment[8:length]
	return d, -1
}

// referenceExtensions walks from the IPv6 header at an offset of the frame to
// the UDP header; the parser's reach is an offset of 2048.
func referenceExtensions(b []byte, ip int, proto byte) (at, reason int) {
	at = ip + 40
	for n := 0; ; n++ {
		switch proto {
		case protoUDP:
			if at > 2048 {
				return 0, int(reasonExtHeaders)
			}
			return at, -1
		case protoFragment:
			return 0, int(reasonFragment)
		case protoHopByHop, protoRouting, protoDstOpts:
		default:
			return 0, int(reasonNotUDP)
		}
		if n == 4 || at > 2048 {
			return 0, int(reasonExtHeaders)
		}
		if at+4 > len(b) {
			return 0, int(reasonIPMalformed)
		}
		if proto == protoRouting && b[at+3] != 0 {
			return 0, int(reasonExtHeaders)
		}
		proto, at = b[at], at+8+int(b[at+1])*8
	}
}

func referenceUnicast(a netip.Addr) bool {
	if a.Is4() {
		first := a.As4()[0]
		return first != 0 && first < 224
	}
	return !a.IsUnspecified() && !a.IsMulticast()
}
