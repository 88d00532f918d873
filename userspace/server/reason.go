// SPDX-License-Identifier: Apache-2.0

package server

import (
	"strings"
	"sync/atomic"

	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// Reason says what became of a packet that reached the server. Each packet is
// counted under exactly one. Numbers may change; names do not.
type Reason uint8

// The reasons.
const (
	_ Reason = iota

	// Taken in: see session.Delivered and session.Probed.
	Delivered
	Probed

	// Answered.

	// RespAccepted: an INIT that opened a session, half-open until its client speaks.
	RespAccepted
	// RespRefused: an INIT that was refused with a status.
	RespRefused
	// RespRepeated: an INIT seen before; the same RESP again.
	RespRepeated
	// RetrySent: an INIT that has to prove its source first.
	RetrySent
	// VersionsSent: an INIT of an unknown version.
	VersionsSent
	// ResetSent: DATA on an id of ours whose session is gone.
	ResetSent

	// Dropped: DATA.

	// Malformed: DATA too short to hold anything.
	Malformed
	// IDForged: the id was never issued by a server with our key.
	IDForged
	// IDGone: the id was ours, its session is gone, and the packet is too short
	// to be answered by something shorter.
	IDGone
	// ResetLimit: the id was ours, over the rate of resets.
	ResetLimit
	// UnknownID and what follows: see the reasons of that name in package session.
	UnknownID
	CounterLimit
	AuthFailed
	Unconfirmed
	ReplayDuplicate
	ReplayOld
	ProtocolError
	AfterClose

	// Dropped: INIT.

	// InitMalformed: wrong length, non-zero reserved bytes, or version 0.
	InitMalformed
	// MAC1: made by someone who does not know the server's public key.
	MAC1
	// VersionLimit: an unknown version, over the rate of VERSIONS.
	VersionLimit
	// InitPending: a repeat while the first one is being worked on.
	InitPending
	// InitConflict: another INIT under a handshake id and source in use.
	InitConflict
	// InitNotOpened: does not decrypt, or says nothing sensible.
	InitNotOpened
	// PrefixLimit: its source has too many INITs a second or half-open sessions.
	PrefixLimit
	// HalfOpenLimit: too many half-open sessions, or answers to repeat, in all.
	HalfOpenLimit
	// HandshakeBusy: more INITs than the handshake workers keep up with, or one
	// that came when the server ended.
	HandshakeBusy
	// HandshakeFailed: the server's own fault; it is logged.
	HandshakeFailed

	// Dropped: others.

	// Truncated: empty, or larger than any packet of ROAM.
	Truncated
	// SourcePortZero: nobody can be answered there.
	SourcePortZero
	// WrongDirection: RETRY, RESP and VERSIONS are for clients.
	WrongDirection
	// Grease: a reserved first byte.
	Grease
	// QUIC, DTLS: recognised, and served by nobody here.
	QUIC
	DTLS
	// UnknownProtocol: a first byte of no protocol.
	UnknownProtocol

	numReasons
)

// NumReasons is one more than the largest Reason; the smallest is 1.
const NumReasons = int(numReasons)

// Verdict is what a reason implies.
type Verdict uint8

// The verdicts.
const (
	VerdictDeliver Verdict = iota
	VerdictAnswer
	VerdictDrop
)

// String returns "deliver", "answer" or "drop".
func (v Verdict) String() string {
	switch v {
	case VerdictDeliver:
		return "deliver"
	case VerdictAnswer:
		return "answer"
	}
	return "drop"
}

// Verdict returns what became of the packet, in a word.
func (r Reason) Verdict() Verdict {
	switch {
	case r <= Probed:
		return VerdictDeliver
	case r <= ResetSent:
		return VerdictAnswer
	}
	return VerdictDrop
}

var reasonNames = [NumReasons]string{
	RespAccepted: "resp_accepted", RespRefused: "resp_refused", RespRepeated: "resp_repeated",
	RetrySent: "retry", VersionsSent: "versions", ResetSent: "reset",
	IDForged: "id_forged", IDGone: "id_gone", ResetLimit: "reset_limit",
	InitMalformed: "init_malformed", MAC1: "mac1", VersionLimit: "version_limit",
	InitPending: "init_pending", InitConflict: "init_conflict", InitNotOpened: "init_not_opened",
	PrefixLimit: "prefix_limit", HalfOpenLimit: "half_open_limit",
	HandshakeBusy: "handshake_busy", HandshakeFailed: "handshake_failed",
	Truncated: "truncated", SourcePortZero: "source_port_zero", WrongDirection: "wrong_direction",
	Grease: "grease", QUIC: "quic", DTLS: "dtls", UnknownProtocol: "unknown_protocol",
}

// ofSession translates what session.Session.Receive returns.
var ofSession = [session.NumReasons]Reason{
	session.Delivered: Delivered, session.Probed: Probed, session.Malformed: Malformed,
	session.UnknownID: UnknownID, session.CounterLimit: CounterLimit, session.AuthFailed: AuthFailed,
	session.Unconfirmed: Unconfirmed, session.ReplayDuplicate: ReplayDuplicate,
	session.ReplayOld: ReplayOld, session.ProtocolError: ProtocolError, session.AfterClose: AfterClose,
}

func init() {
	// One name for one thing: those of the session, in the counters' style.
	for from, to := range ofSession {
		if to != 0 {
			reasonNames[to] = snake(session.Reason(from).String())
		}
	}
}

// snake turns a name of package session into the style of logs and counters.
func snake(name string) string { return strings.ReplaceAll(name, "-", "_") }

// String returns the reason's name, such as "auth_failed".
func (r Reason) String() string {
	if r > 0 && r < numReasons {
		return reasonNames[r]
	}
	return "unknown"
}

// counters are counts by reason. Readers, handshake workers and timekeepers have
// their own, so that they cost no contended line; who comes from outside, such as
// Session.Close, counts in those of the session's worker.
type counters struct {
	packets [NumReasons]atomic.Uint64
	// datagramsDropped: the session's reader was too slow.
	datagramsDropped atomic.Uint64
	// datagramsTooLarge: the client, or the path to it, does not take them.
	datagramsTooLarge atomic.Uint64
	// sendRefused: packets that the kernel did not take.
	sendRefused atomic.Uint64
	// sentDirect: packets that left by a queue.
	sentDirect atomic.Uint64
	_          [64]byte
}

func (c *counters) add(o *counters) {
	for i := range c.packets {
		c.packets[i].Add(o.packets[i].Load())
	}
	c.datagramsDropped.Add(o.datagramsDropped.Load())
	c.datagramsTooLarge.Add(o.datagramsTooLarge.Load())
	c.sendRefused.Add(o.sendRefused.Load())
	c.sentDirect.Add(o.sentDirect.Load())
}
