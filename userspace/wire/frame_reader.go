// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Why frames could not be read. Each closes the session with
// CloseProtocolError.
var (
	ErrUnknownFrame = errors.New("unknown frame")
	ErrFrameOverrun = errors.New("frame runs past the packet")
	ErrFrameValue   = errors.New("frame has a value outside its range")
)

// FrameError is a protocol error in one frame. Err is ErrUnknownFrame,
// ErrFrameOverrun or ErrFrameValue.
type FrameError struct {
	Type FrameType
	Err  error
}

// Error names the frame by its number, as it came.
func (e *FrameError) Error() string {
	const prefix = "protocol error: "
	n := hexByte(byte(e.Type))
	switch e.Err {
	case ErrUnknownFrame:
		return prefix + "unknown frame " + n
	case ErrFrameOverrun:
		return prefix + "frame " + n + " runs past the packet"
	case ErrFrameValue:
		return prefix + "frame " + n + " has a value outside its range"
	}
	return prefix + "frame " + n + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *FrameError) Unwrap() error { return e.Err }

// FrameReader reads the frames of a plaintext one after another:
//
//	r := NewFrameReader(plaintext)
//	for r.Next(&f) { ... }
//	if err := r.Err(); err != nil { ... }
//
// A run of PAD comes as one frame. Unknown extensions come too, so that the
// caller can tell a packet of only probing frames; it skips them.
//
// Next hands out the frames that come before a bad one. A caller that must act
// on all of a packet or on nothing reads it twice, first with CheckFrames.
type FrameReader struct {
	rest []byte
	bad  FrameError // Err is nil while all is well
}

// NewFrameReader starts reading plaintext, which is neither kept beyond the
// reader and the frames' slices nor changed.
func NewFrameReader(plaintext []byte) FrameReader { return FrameReader{rest: plaintext} }

// Err returns nil at the regular end of the frames, else a *FrameError.
func (r *FrameReader) Err() error {
	if r.bad.Err == nil {
		return nil
	}
	return &FrameError{r.bad.Type, r.bad.Err}
}

// CheckFrames reads the plaintext to its end without handing anything out.
func CheckFrames(plaintext []byte) error {
	r := NewFrameReader(plaintext)
	var f Frame
	for r.Next(&f) {
	}
	return r.Err()
}

// Next reads one frame into f. It returns false at the end and at a bad frame;
// Err tells which.
func (r *FrameReader) Next(f *Frame) bool {
	if len(r.rest) == 0 {
		return false
	}
	f.Type = FrameType(r.rest[0])
	body := r.rest[1:]
	var n int // length of the body
	switch f.Type {
	case FramePad:
		// A client's first packet on a path is a kilobyte of it.
		for n+8 <= len(body) && binary.NativeEndian.Uint64(body[n:]) == 0 {
			n += 8
		}
		for n < len(body) && body[n] == 0 {
			n++
		}
	case FramePing, FramePong:
		if n = 8; len(body) < n {
			return r.fail(f.Type, ErrFrameOverrun)
		}
		f.Token = binary.BigEndian.Uint64(body)
	case FrameChallenge, FrameResponse, FrameNotPreferred:
		if n = len(f.Cookie); len(body) < n {
			return r.fail(f.Type, ErrFrameOverrun)
		}
		f.Cookie = Cookie(body[:n])
	case FrameNewID:
		if n = NewIDLen - 1; len(body) < n {
			return r.fail(f.Type, ErrFrameOverrun)
		}
		f.Seq = binary.BigEndian.Uint32(body)
		f.ID = ID(body[4:20])
		f.Reset = Token(body[20:36])
	case FrameDatagram:
		n = len(body)
		f.Data = body
	case FrameDatagramLen:
		if !r.sized(f, body) {
			return false
		}
		n = 2 + len(f.Data)
	case FrameDatagramPart:
		if len(body) < DatagramPartHeader-1 {
			return r.fail(f.Type, ErrFrameOverrun)
		}
		f.Part = DatagramPart{binary.BigEndian.Uint32(body), body[4], body[5]}
		if p := f.Part; p.Count < 2 || p.Count > MaxParts || p.Index >= p.Count {
			return r.fail(f.Type, ErrFrameValue)
		}
		n = len(body)
		f.Data = body[DatagramPartHeader-1:]
	default:
		var err error
		if n, err = f.readRare(body); err != nil {
			return r.fail(f.Type, err)
		}
	}
	r.rest = body[n:]
	return true
}

// sized reads the u16 length and the bytes that follow into f.Data.
func (r *FrameReader) sized(f *Frame, body []byte) bool {
	if len(body) < 2 {
		return r.fail(f.Type, ErrFrameOverrun)
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if len(body) < n {
		return r.fail(f.Type, ErrFrameOverrun)
	}
	f.Data = body[2:n:n]
	return true
}

func (r *FrameReader) fail(t FrameType, err error) bool {
	r.bad = FrameError{t, err}
	r.rest = nil
	return false
}

// readRare reads the body of a frame that is not on the way of every packet. It
// returns the length of the body.
func (f *Frame) readRare(body []byte) (n int, err error) {
	switch f.Type {
	case FrameClose:
		if len(body) < 3 || len(body) < 3+int(body[2]) {
			return 0, ErrFrameOverrun
		}
		n = 3 + int(body[2])
		f.Code = CloseCode(binary.BigEndian.Uint16(body))
		f.Reason = body[3:n:n]
		return n, nil
	case FrameObservedAddr:
		f.Addr, n, err = readAddr(body)
		return n, err
	case FrameAddrs:
		return f.readAddrs(body)
	case FrameParams:
		if len(body) < 6 {
			return 0, ErrFrameOverrun
		}
		f.IdleTimeout = binary.BigEndian.Uint32(body)
		f.MaxDatagram = binary.BigEndian.Uint16(body[4:])
		return 6, nil
	case FrameVersions:
		if len(body) < 1 || len(body) < 1+4*int(body[0]) {
			return 0, ErrFrameOverrun
		}
		n = 1 + 4*int(body[0])
		f.Versions = VersionList(body[1:n:n])
		return n, nil
	case FrameRekeyInit, FrameRekeyResp:
		if n = 8 + RekeyNoiseLen; len(body) < n {
			return 0, ErrFrameOverrun
		}
		f.Epoch = binary.BigEndian.Uint32(body)
		f.FirstSeq = binary.BigEndian.Uint32(body[4:])
		f.Noise = [RekeyNoiseLen]byte(body[8:n])
		return n, nil
	}
	if !f.Type.Extension() {
		return 0, ErrUnknownFrame
	}
	if len(body) < 2 || len(body) < 2+int(binary.BigEndian.Uint16(body)) {
		return 0, ErrFrameOverrun
	}
	n = 2 + int(binary.BigEndian.Uint16(body))
	f.Data = body[2:n:n]
	return n, nil
}

func (f *Frame) readAddrs(body []byte) (n int, err error) {
	f.naddrs = 0
	if len(body) < 1 {
		return 0, ErrFrameOverrun
	}
	count := int(body[0])
	if count > MaxAddrs {
		return 0, ErrFrameValue
	}
	n = 1
	for i := range count {
		addr, m, err := readAddr(body[n:])
		if err != nil {
			return 0, err
		}
		f.addrs[i] = addr
		n += m
	}
	f.naddrs = count
	return n, nil
}

// readAddr reads family, ip and port. It unmaps an IPv4-mapped address, so that
// one address has one form inside the program.
func readAddr(b []byte) (a netip.AddrPort, n int, err error) {
	if len(b) < 1 {
		return a, 0, ErrFrameOverrun
	}
	switch b[0] {
	case 4:
		if n = 1 + 4 + 2; len(b) < n {
			return a, 0, ErrFrameOverrun
		}
		ip := netip.AddrFrom4([4]byte(b[1:5]))
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[5:])), n, nil
	case 6:
		if n = 1 + 16 + 2; len(b) < n {
			return a, 0, ErrFrameOverrun
		}
		ip := netip.AddrFrom16([16]byte(b[1:17])).Unmap()
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[17:])), n, nil
	}
	return a, 0, ErrFrameValue
}

// hexByte formats b as 0x3f.
func hexByte(b byte) string {
	const digits = "0123456789abcdef"
	return "0x" + string([]byte{digits[b>>4], digits[b&15]})
}
