// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// State is where in its life a session is.
type State uint8

// The states, in the order they come.
const (
	// StateUnconfirmed: server, nothing authentic has come from where RESP went;
	// client, nothing authentic has come.
	StateUnconfirmed State = iota
	// StateOpen carries datagrams.
	StateOpen
	// StateClosing: we sent CLOSE and wait for its PONG, and then for late packets.
	StateClosing
	// StateDraining: the peer closed, or there was no one to tell; silent, its ids
	// still live for 3 PTO.
	StateDraining
	// StateEnded: nothing is left to do.
	StateEnded
)

// String returns the state in words.
func (s State) String() string {
	switch s {
	case StateUnconfirmed:
		return "unconfirmed"
	case StateOpen:
		return "open"
	case StateClosing:
		return "closing"
	case StateDraining:
		return "draining"
	case StateEnded:
		return "ended"
	}
	return "unknown"
}

// Traffic counts one direction. Bytes are UDP payload of authentic packets,
// duplicates not counted.
type Traffic struct {
	Packets, Bytes           uint64
	Datagrams, DatagramBytes uint64
}

// Moves counts path changes and when the last of each kind was. A time is zero
// when there was none.
type Moves struct {
	Started, Committed, Refused, Reverted uint64
	LastStarted, LastCommitted            Time
	LastRefused, LastReverted             Time
}

// Info is what an operator may want to see of a session: plain values, no
// aliases.
type Info struct {
	Role  Role
	State State
	// Path is the current, validated path.
	Path Path
	// Candidates are the paths being validated, NumCandidates of them.
	Candidates    [maxCandidates]Path
	NumCandidates int
	// Observed is where the peer sees us, if it told.
	Observed netip.AddrPort

	// SRTT is 0 before the first sample.
	SRTT, PTO time.Duration
	// MTU is the UDP payload that the current path is known to carry.
	MTU int

	Started, LastReceived, LastSent Time
	IdleTimeout                     time.Duration

	// LocalIDs are live ids of ours, SpareLocalIDs those of them that the peer has
	// not used; SpareRemoteIDs are the peer's ids that we can still move to.
	LocalIDs, SpareLocalIDs, SpareRemoteIDs int
	// LocalID is our id that the peer now uses, RemoteID the peer's id that we send
	// on, SendCounter the packets sent on it.
	LocalID, RemoteID   wire.ID
	LocalSeq, RemoteSeq uint32
	SendCounter         uint64

	// Epoch counts the rekeys. Rekeying: one is under way, or its old secrets are not
	// wiped yet.
	Epoch    uint32
	Rekeying bool
	// Silent: client, told by EventSilent, and nothing came since. Racing is the
	// number of paths of a Race that may still answer.
	Silent bool
	Racing int

	Moves            Moves
	ForwardingAlarms uint64
	Received, Sent   Traffic
	// Counts are by Reason.
	Counts [NumReasons]uint64
}
