// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Session is one session at the server. It is plain values, so that a daemon with
// a million of them filters and sorts without making a text of each.
type Session struct {
	// ID names the session for all of its life; CurrentID is the id that its
	// packets carry now. Both are hexadecimal in JSON.
	ID        wire.ID `json:"id"`
	CurrentID wire.ID `json:"current_id"`
	// PeerKey is the client's public key, PeerName its name in authorized_keys.
	PeerKey  handshake.PublicKey `json:"peer_key"`
	PeerName string              `json:"peer_name,omitempty"`
	Service  uint16              `json:"service"`
	// State is one of SessionStates.
	State string `json:"state"`
	// Owner is the worker whose sockets get its packets.
	Owner int `json:"owner"`
	// Remote is the validated address, Local the server's address that answers leave from.
	Remote     netip.AddrPort   `json:"remote"`
	Local      netip.AddrPort   `json:"local"`
	Candidates []netip.AddrPort `json:"candidates"`
	Started    time.Time        `json:"started"`
	// LastReceived is when something authentic arrived last.
	LastReceived time.Time `json:"last_received"`
	LastMove     time.Time `json:"last_move,omitzero"`
	// Moves counts the committed ones; the others are candidates that failed
	// validation, and moves that the old path's owner took back.
	Moves         uint64 `json:"moves"`
	MovesRefused  uint64 `json:"moves_refused"`
	MovesReverted uint64 `json:"moves_reverted"`
	// ForwardingAlarms counts authentic copies that came from elsewhere.
	ForwardingAlarms uint64 `json:"forwarding_alarms"`
	// RTT is smoothed; 0 before the first measurement.
	RTT     int64 `json:"rtt_ns"`
	PathMTU int   `json:"path_mtu_bytes"`

	PacketsReceived   uint64 `json:"packets_received"`
	PacketsSent       uint64 `json:"packets_sent"`
	BytesReceived     uint64 `json:"bytes_received"`
	BytesSent         uint64 `json:"bytes_sent"`
	DatagramsReceived uint64 `json:"datagrams_received"`
	DatagramsSent     uint64 `json:"datagrams_sent"`
}

// The states that a session can have, by what a SessionQuery calls them.
const (
	StateOpen = "open"
	StateAll  = "all" // any of SessionStates
)

// SessionStates are the values of Session.State, in the order they come.
var SessionStates = []string{"unconfirmed", StateOpen, "closing", "draining", "ended"}

// Detail is all that the server knows of one session.
type Detail struct {
	Session
	// IDs are those of ours that live: the client may send on any. SpareIDs of them
	// it has not used; SparePeerIDs of its own we can still move to.
	IDs          []wire.ID `json:"ids"`
	SpareIDs     int       `json:"spare_ids"`
	PeerID       wire.ID   `json:"peer_id"` // that we send on
	SparePeerIDs int       `json:"spare_peer_ids"`
	// Epoch counts the rekeys; Rekeying: one is under way.
	Epoch    uint32 `json:"epoch"`
	Rekeying bool   `json:"rekeying"`
	// PTO is how long an answer is waited for before a packet is sent again.
	PTO         int64 `json:"pto_ns"`
	IdleTimeout int64 `json:"idle_timeout_ns"`
	MaxDatagram int   `json:"max_datagram_bytes"`

	LastSent     time.Time `json:"last_sent,omitzero"`
	MovesStarted uint64    `json:"moves_started"`
	MoveStarted  time.Time `json:"move_started,omitzero"`
	MoveRefused  time.Time `json:"move_refused,omitzero"`
	MoveReverted time.Time `json:"move_reverted,omitzero"`
	// Packets is what became of the packets that came for the session, by reason,
	// without zeros.
	Packets map[string]uint64 `json:"packets"`
}

// Live is a session of the running server.
type Live interface {
	// Read sets every field of s. It may be asked again after the session's end.
	Read(s *Session)
	Detail() Detail
	// Trace has f called with each packet of the session, cut at snap bytes unless
	// that is 0, until stop is called, and with nil when the session has ended. f
	// waits for nothing.
	Trace(snap int, f func(*Packet)) (stop func())
	// Close ends the session and tells its client why; again it does nothing.
	Close(reason string) error
}

// CloseRequest is the body of POST /v1/sessions/close.
type CloseRequest struct {
	IDs []wire.ID `json:"ids"`
	// Reason is for the client's user to read.
	Reason string `json:"reason"`
}
