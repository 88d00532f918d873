// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// EventKind says what happened.
type EventKind uint8

// The events. Their names are those of the log lines and counters.
const (
	// EventConfirmed: server, the first authentic DATA came from where RESP went;
	// client, the first authentic DATA came at all.
	EventConfirmed EventKind = iota + 1
	// EventMoveStarted: Path became a candidate beside the current path From and is
	// being validated. On a client also: Move left From for Path; on a server also:
	// MoveLocal did.
	EventMoveStarted
	// EventMoveCommitted: Path is validated and the session is on it; it was on
	// From. Took is the time since EventMoveStarted.
	EventMoveCommitted
	// EventMoveRefused: Path is no candidate any more; the session stays on From.
	// Reason says why: one of the Refused reasons.
	EventMoveRefused
	// EventMoveReverted: the session was on From and is back on Path, whose owner
	// answered that it prefers it.
	EventMoveReverted
	// EventForwardingAlarm: an authentic duplicate came from Path while the session
	// is on From: someone forwards or replays packets. At most one each PTO.
	EventForwardingAlarm
	// EventPathReleased: client, Path was left long enough ago, or lost a Race; its
	// socket may be closed.
	EventPathReleased
	// EventObserved: the peer says that it sees us at Addr.
	EventObserved
	// EventAddrs: client, the server told where else it can be reached; see
	// Session.ServerAddrs.
	EventAddrs
	// EventClosed: the session is over, by the peer when Remote is set. Code and
	// Text say why. Ids are still live for a while, so that late packets meet
	// silence and not a reset.
	EventClosed
	// EventEnded: every id is retired; the caller may drop the Session.
	EventEnded
	// EventRekeyed: a new epoch's secrets are in use; see Info.Epoch.
	EventRekeyed
	// EventReset: client, the server does not know the session any more: it proved
	// so, by a packet to Path, with the reset token of an id that we send on.
	// EventEnded follows, in place of EventClosed. Open a new session at once.
	EventReset
	// EventSilent: client, nothing authentic came for a while after sending on Path,
	// nor after three PINGs: time to Race.
	EventSilent
	// EventClockJump: client, the caller's clock jumped, or Resume was called: the
	// networks may have changed. A PING is sent; it is a good time to Race.
	EventClockJump
	// EventRaceWon: client, Path was the first of a Race to answer; the session is
	// on From. Unless they are the same, the session moves there at once:
	// EventMoveStarted follows. EventPathReleased tells of the losers' sockets.
	EventRaceWon
	// EventRaceLost: client, no path of the Race answered. The session goes on
	// trying where it is; a caller opens a new one. EventPathReleased tells of the
	// losers' sockets.
	EventRaceLost
)

var eventNames = [...]string{
	EventConfirmed:       "confirmed",
	EventMoveStarted:     "move-started",
	EventMoveCommitted:   "move-committed",
	EventMoveRefused:     "move-refused",
	EventMoveReverted:    "move-reverted",
	EventForwardingAlarm: "forwarding-alarm",
	EventPathReleased:    "path-released",
	EventObserved:        "observed-address",
	EventAddrs:           "server-addresses",
	EventClosed:          "closed",
	EventEnded:           "ended",
	EventRekeyed:         "rekeyed",
	EventReset:           "reset",
	EventSilent:          "silent",
	EventClockJump:       "clock-jump",
	EventRaceWon:         "race-won",
	EventRaceLost:        "race-lost",
}

// String returns the name that log lines and counters use.
func (k EventKind) String() string {
	if int(k) < len(eventNames) && eventNames[k] != "" {
		return eventNames[k]
	}
	return "unknown"
}

// Event is something that an operator or an application may want to know. Which
// fields mean anything is said with the kind.
type Event struct {
	Kind       EventKind
	Path, From Path
	Reason     Reason
	Took       time.Duration
	Addr       netip.AddrPort
	Remote     bool
	Code       wire.CloseCode
	Text       string // safe to show: not printable bytes are replaced
}
