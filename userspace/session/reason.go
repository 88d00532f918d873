// SPDX-License-Identifier: Apache-2.0

package session

// Reason says what became of a packet, of a frame in it, or of a candidate path.
// Each has a counter in Info.
type Reason uint8

// What became of a packet: Receive returns one of these.
const (
	// Delivered: authentic, new, and acted on.
	Delivered Reason = iota
	// Probed: as Delivered, of probing frames only.
	Probed
	// Malformed: not a DATA packet.
	Malformed
	// UnknownID: names no live id of this session.
	UnknownID
	// CounterLimit: a counter from 2^28 on; not decrypted.
	CounterLimit
	// AuthFailed: the AEAD did not open it.
	AuthFailed
	// Unconfirmed: authentic, but not from where RESP went while that is not
	// confirmed yet; ignored and not marked as received.
	Unconfirmed
	// ReplayDuplicate: authentic and received before.
	ReplayDuplicate
	// ReplayOld: authentic and behind the replay window.
	ReplayOld
	// ProtocolError: authentic and against the protocol; the session was closed
	// with code 1.
	ProtocolError
	// AfterClose: the session is closed; silence.
	AfterClose
	// StatelessReset: client, not authentic, but it ends with the reset token of an
	// id that we send on; the session ended.
	StatelessReset

	// What became of a packet's wish to move the path.

	// NotNewest: came from elsewhere and is older than another packet.
	NotNewest
	// BackedOff: its source lost against a still preferred path a while ago.
	BackedOff
	// UnknownServer: client, its source is no known address of the server.
	UnknownServer
	// LeftPath: client, came to a socket that the client does not send from.
	LeftPath

	// What became of a frame.

	// AnswerUnknown: RESPONSE or NOT_PREFERRED to no challenge that is open.
	AnswerUnknown
	// AnswerElsewhere: such an answer, not from the address that was challenged.
	AnswerElsewhere
	// AnswerVoid: RESPONSE from the old path after its NOT_PREFERRED.
	AnswerVoid
	// Forwarded: a duplicate from elsewhere that raised a forwarding alarm.
	Forwarded
	// PongUnknown: PONG to no PING that is open.
	PongUnknown
	// WrongSide: ADDRS or REKEY from the side that does not send them.
	WrongSide
	// RekeyEarly: REKEY_INIT while the one before is not finished, or while there is
	// no id for the new epoch: not answered, the client repeats it.
	RekeyEarly
	// RekeyLate: REKEY_INIT or REKEY_RESP of an epoch that is agreed on already.
	RekeyLate
	// RekeyUnasked: REKEY_RESP without a REKEY_INIT.
	RekeyUnasked
	// DatagramTooLarge: larger than our PARAMS allow.
	DatagramTooLarge
	// PartRefused: DATAGRAM_PART that contradicts the parts before it.
	PartRefused
	// PartExpired: a partial datagram whose other parts did not come within 1 s, or
	// that made room for a ninth.
	PartExpired
	// NoAnswerSocket: client, CHALLENGE to a socket that is neither current nor
	// left.
	NoAnswerSocket

	// Why a candidate is none any more.

	// RefusedPreferred: the old path answered RESPONSE.
	RefusedPreferred
	// RefusedTimeout: neither answered in time.
	RefusedTimeout
	// RefusedLeft: it answered NOT_PREFERRED: its owner has gone on.
	RefusedLeft
	// RefusedReplaced: a fourth candidate took its place.
	RefusedReplaced
	// RefusedCurrent: a newer packet came from the current path.
	RefusedCurrent
	// RefusedMoved: we moved ourselves, or the session ended.
	RefusedMoved
	// RefusedUnheard: server, the client did not follow MoveLocal.
	RefusedUnheard

	// What we left undone.

	// IssueFailed: IDs.Issue failed; the peer has fewer spare ids.
	IssueFailed
	// NoSpareID: a rotation kept the current id for want of a spare one.
	NoSpareID
	// OverBudget: something was not sent to a candidate, to stay within 3x.
	OverBudget

	numReasons
)

// NumReasons is the number of reasons; they count from 0.
const NumReasons = int(numReasons)

var reasonNames = [NumReasons]string{
	Delivered:        "delivered",
	Probed:           "probed",
	Malformed:        "malformed",
	UnknownID:        "unknown-id",
	CounterLimit:     "counter-limit",
	AuthFailed:       "auth-failed",
	Unconfirmed:      "unconfirmed",
	ReplayDuplicate:  "replay-duplicate",
	ReplayOld:        "replay-old",
	ProtocolError:    "protocol-error",
	AfterClose:       "after-close",
	NotNewest:        "not-newest",
	BackedOff:        "backed-off",
	UnknownServer:    "unknown-server",
	LeftPath:         "left-path",
	AnswerUnknown:    "answer-unknown",
	AnswerElsewhere:  "answer-elsewhere",
	AnswerVoid:       "answer-void",
	Forwarded:        "forwarded",
	PongUnknown:      "pong-unknown",
	WrongSide:        "wrong-side",
	StatelessReset:   "stateless-reset",
	RekeyEarly:       "rekey-early",
	RekeyLate:        "rekey-late",
	RekeyUnasked:     "rekey-unasked",
	DatagramTooLarge: "datagram-too-large",
	PartRefused:      "part-refused",
	PartExpired:      "part-expired",
	NoAnswerSocket:   "no-answer-socket",
	RefusedPreferred: "refused-preferred",
	RefusedTimeout:   "refused-timeout",
	RefusedLeft:      "refused-left",
	RefusedReplaced:  "refused-replaced",
	RefusedCurrent:   "refused-current",
	RefusedMoved:     "refused-moved",
	RefusedUnheard:   "refused-unheard",
	IssueFailed:      "issue-failed",
	NoSpareID:        "no-spare-id",
	OverBudget:       "over-budget",
}

// String returns the name that counters and log lines use.
func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return "unknown"
}
