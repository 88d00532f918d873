// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// NewID is an id that one side issues to the other, with the token of its
// stateless reset. Its issuer receives on it.
type NewID struct {
	Seq   uint32
	ID    wire.ID
	Reset wire.Token
}

// Params is what one side tells the other about itself.
type Params struct {
	// IdleTimeout is how long a session may be idle, in whole seconds on the wire.
	IdleTimeout time.Duration
	// MaxDatagram is the largest datagram that the side accepts, in bytes.
	MaxDatagram uint16
}

// initIDs is how many ids a client issues in its INIT: seq 0, 1 and 2.
const initIDs = 3

// payloadHeader is service or status, and flags, before the frames.
const payloadHeader = 4

// ourVersions are the versions that this package speaks.
var ourVersions = []uint32{wire.Version1}

func appendPayloadHeader(b []byte, value uint16) []byte {
	b = binary.BigEndian.AppendUint16(b, value)
	return append(b, 0, 0) // flags
}

func appendParams(b []byte, p Params) []byte {
	seconds := min(max(p.IdleTimeout/time.Second, 0), math.MaxUint32)
	return wire.AppendParams(b, uint32(seconds), p.MaxDatagram)
}

func paramsOf(f *wire.Frame) Params {
	return Params{IdleTimeout: time.Duration(f.IdleTimeout) * time.Second, MaxDatagram: f.MaxDatagram}
}

// initPayload is the content of INIT.
type initPayload struct {
	service uint16
	params  Params
	newIDs  [initIDs]NewID
}

func (p *initPayload) appendTo(b []byte) []byte {
	b = appendPayloadHeader(b, p.service)
	b = appendParams(b, p.params)
	for _, n := range p.newIDs {
		b = wire.AppendNewID(b, n.Seq, n.ID, n.Reset)
	}
	return b
}

// parseInitPayload reads the content of INIT: one PARAMS and the NEW_IDs of seq
// 0, 1 and 2, in any order. Extensions are skipped; any other frame has no place
// in INIT, and dropping the packet is kinder than to lose what the client
// thought it said.
func parseInitPayload(b []byte) (p initPayload, err error) {
	if len(b) < payloadHeader {
		return p, fmt.Errorf("%w: %d bytes", ErrBadPayload, len(b))
	}
	p.service = binary.BigEndian.Uint16(b)
	var haveParams bool
	var haveID [initIDs]bool
	var f wire.Frame
	r := wire.NewFrameReader(b[payloadHeader:])
	for r.Next(&f) {
		switch {
		case f.Type == wire.FramePad || f.Type.Extension():
		case f.Type == wire.FrameParams && !haveParams:
			p.params, haveParams = paramsOf(&f), true
		case f.Type == wire.FrameNewID && f.Seq < initIDs && !haveID[f.Seq]:
			p.newIDs[f.Seq], haveID[f.Seq] = NewID{f.Seq, f.ID, f.Reset}, true
		case f.Type == wire.FrameNewID:
			return p, fmt.Errorf("%w: NEW_ID of seq %d, a second time or beyond 2", ErrBadPayload, f.Seq)
		default:
			return p, fmt.Errorf("%w: a %v that has no place in INIT", ErrBadPayload, f.Type)
		}
	}
	if err := r.Err(); err != nil {
		return p, fmt.Errorf("%w: %w", ErrBadPayload, err)
	}
	if !haveParams || slices.Contains(haveID[:], false) {
		return p, fmt.Errorf("%w: PARAMS or one of three NEW_IDs is missing", ErrBadPayload)
	}
	if err := checkDistinct(p.newIDs[:]); err != nil {
		return p, err
	}
	return p, nil
}

// checkDistinct refuses the same id under two seqs: its keys would differ, so no
// packet on it could be told apart.
func checkDistinct(ids []NewID) error {
	for i, n := range ids {
		for _, m := range ids[:i] {
			if n.ID == m.ID {
				return fmt.Errorf("%w: NEW_IDs of seq %d and %d are the same id", ErrBadPayload, m.Seq, n.Seq)
			}
		}
	}
	return nil
}

// Acceptance is what a server tells a client that it accepts.
type Acceptance struct {
	Params   Params
	NewID    NewID            // of seq 0
	Observed netip.AddrPort   // where INIT came from; left out if not valid
	Addrs    []netip.AddrPort // where else the server can be reached, at most wire.MaxAddrs
	Versions []uint32         // that the server speaks; nil: those of this package
}

func (a *Acceptance) appendTo(b []byte) []byte {
	b = appendPayloadHeader(b, uint16(wire.StatusAccepted))
	b = appendParams(b, a.Params)
	b = wire.AppendNewID(b, a.NewID.Seq, a.NewID.ID, a.NewID.Reset)
	if a.Observed.IsValid() {
		b = wire.AppendObservedAddr(b, a.Observed)
	}
	if len(a.Addrs) > 0 {
		b = wire.AppendAddrs(b, a.Addrs)
	}
	versions := a.Versions
	if versions == nil {
		versions = ourVersions
	}
	return wire.AppendVersions(b, versions)
}

// Reply is what a server answered.
type Reply struct {
	Status wire.Status
	// Code and Reason tell more when Status is not wire.StatusAccepted. Reason is
	// safe to show.
	Code   wire.CloseCode
	Reason string

	// The rest is set when Status is wire.StatusAccepted.
	Secrets  Secrets
	Params   Params
	NewIDs   []NewID          // seq 0 and, if there are more, on from there
	Observed netip.AddrPort   // where the server sees us; may be invalid
	Addrs    []netip.AddrPort // where else the server can be reached
	Versions []uint32         // that the server speaks
}

// maxReplyIDs bounds Reply.NewIDs: no side may have more live ids.
const maxReplyIDs = 8

func parseReply(b []byte) (*Reply, error) {
	if len(b) < payloadHeader {
		return nil, fmt.Errorf("%w: %d bytes", ErrBadPayload, len(b))
	}
	reply := &Reply{Status: wire.Status(binary.BigEndian.Uint16(b))}
	var haveParams bool
	var f wire.Frame
	r := wire.NewFrameReader(b[payloadHeader:])
	for r.Next(&f) {
		switch f.Type {
		case wire.FrameParams:
			reply.Params, haveParams = paramsOf(&f), true
		case wire.FrameNewID:
			if int(f.Seq) != len(reply.NewIDs) || f.Seq >= maxReplyIDs {
				return nil, fmt.Errorf("%w: NEW_ID of seq %d where %d was due", ErrBadPayload, f.Seq, len(reply.NewIDs))
			}
			reply.NewIDs = append(reply.NewIDs, NewID{f.Seq, f.ID, f.Reset})
		case wire.FrameObservedAddr:
			reply.Observed = f.Addr
		case wire.FrameAddrs:
			reply.Addrs = slices.Clone(f.Addrs())
		case wire.FrameVersions:
			reply.Versions = f.Versions.AppendTo(nil)
		case wire.FrameClose:
			reply.Code, reply.Reason = f.Code, f.ReasonText()
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadPayload, err)
	}
	if reply.Status != wire.StatusAccepted {
		return reply, nil
	}
	if !haveParams || len(reply.NewIDs) == 0 {
		return nil, fmt.Errorf("%w: accepted, but PARAMS or NEW_ID is missing", ErrBadPayload)
	}
	if err := checkDistinct(reply.NewIDs); err != nil {
		return nil, err
	}
	for _, v := range reply.Versions {
		if v > wire.Version1 && slices.Contains(ourVersions, v) {
			return nil, fmt.Errorf("%w: version %d", ErrDowngrade, v)
		}
	}
	return reply, nil
}
