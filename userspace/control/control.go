// SPDX-License-Identifier: Apache-2.0

// Package control is the daemon's local API: HTTP and JSON over a unix socket
// that only the daemon's user may open: it shows the daemon's state, drains it and
// rotates its state secret. The types here are
// also what the command line prints with `-o json`, so that a script sees one
// shape wherever it asks: fields are only ever added, times are RFC 3339,
// durations and sizes are raw integers with the unit in the name.
package control

import (
	"errors"
	"time"
)

// APIVersion is in every document; it changes when a field changes its meaning.
const APIVersion = "xdp-roam/v1"

// Errors of Listen and of the client.
var (
	// ErrInUse: another live daemon answers on the socket.
	ErrInUse = errors.New("another daemon answers on this control socket")
	// ErrNotRunning: nothing answers on the socket.
	ErrNotRunning = errors.New("no daemon is running")
	// ErrEnding: the daemon takes away what it holds, and then ends.
	ErrEnding = errors.New("the daemon is ending")
	// ErrRefused: the daemon says why it does not do what was asked.
	ErrRefused = errors.New("the daemon refuses")
)

// Kinds of documents.
const (
	KindStatus  = "Status"
	KindSession = "Session"
	KindCounter = "Counter"
	// KindGeneration is one state secret in use.
	KindGeneration = "StateGeneration"
	KindError      = "Error"
)

// Document is the one shape of everything that is printed or served as JSON.
type Document[T any] struct {
	APIVersion string `json:"api_version"`
	Kind       string `json:"kind"`
	Items      []T    `json:"items"`
}

// NewDocument wraps items; no items are an empty list, never null.
func NewDocument[T any](kind string, items []T) Document[T] {
	if items == nil {
		items = []T{}
	}
	return Document[T]{APIVersion: APIVersion, Kind: kind, Items: items}
}

// Status is what one daemon does and why.
type Status struct {
	Instance string    `json:"instance"`
	Version  string    `json:"version"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Listen   string    `json:"listen"`
	// PublicKey is the server's, as clients need it.
	PublicKey string `json:"public_key"`
	// Mode is afxdp, xdp, generic, socket, none, or mixed where interfaces differ;
	// ModeReason says why it is that one.
	Mode       string      `json:"mode"`
	ModeReason string      `json:"mode_reason"`
	Interfaces []Interface `json:"interfaces"`
	Services   []Service   `json:"services"`
	Cookie     string      `json:"cookie"`
	// AuthorizedKeys is the list of clients; absent where every key is served.
	AuthorizedKeys *AuthorizedKeys `json:"authorized_keys,omitempty"`
	// PreviousPublicKey is the key before it, which is still served.
	PreviousPublicKey string `json:"previous_public_key,omitempty"`
	// Draining: no new sessions are taken; the daemon ends with the last session
	// or, if there is one, at the deadline.
	Draining      bool      `json:"draining"`
	DrainDeadline time.Time `json:"drain_deadline,omitzero"`
	// Sessions counts the confirmed ones, HalfOpen those that wait for the client's first packet.
	Sessions uint64 `json:"sessions"`
	HalfOpen uint64 `json:"half_open"`
	// TableUsed and TableSlots count ids in the session table; it refuses new ids at three quarters.
	TableUsed  uint64 `json:"table_used"`
	TableSlots uint64 `json:"table_slots"`
}

// Interface is one attachment of the XDP program.
type Interface struct {
	Name string `json:"name"`
	// Mode is native or generic; empty while it is not attached.
	Mode   string `json:"mode"`
	Driver string `json:"driver,omitempty"`
	// State is attached, unattached (mode socket) or degraded; Reason says why the mode is
	// that one, or what is wrong.
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	// AFXDP is there in mode afxdp.
	AFXDP *AFXDP `json:"afxdp,omitempty"`
}

// AFXDP is an interface's AF_XDP sockets: one for each receive queue, as it should be.
type AFXDP struct {
	Queues int `json:"queues"`
	Bound  int `json:"bound"`
	// ZeroCopy and HugePages count the sockets that have them.
	ZeroCopy  int `json:"zero_copy"`
	HugePages int `json:"huge_pages"`
	// Copying says why there is no zero-copy though the driver may have it; empty: there
	// is, where it has.
	Copying string `json:"copying,omitempty"`
	Memory  int    `json:"memory_bytes"`
	MTU     int    `json:"mtu"` // of the interface, as the sockets know it
	// Missing says why queues have no socket; empty: all have.
	Missing string `json:"missing,omitempty"`
	// NoFrame and RingFull count packets that the kernel dropped at the sockets
	// that are there now, because their reader was too slow.
	NoFrame  uint64 `json:"dropped_no_frame"`
	RingFull uint64 `json:"dropped_ring_full"`
}

// AuthorizedKeys is the list of clients in force.
type AuthorizedKeys struct {
	File    string    `json:"file"`
	Clients int       `json:"clients"`
	Read    time.Time `json:"read"`
	// Error is why the file as it is now was not taken at Failed: the list that was
	// read before stays in force. Empty: it is the file's.
	Error  string    `json:"error,omitempty"`
	Failed time.Time `json:"failed,omitzero"`
}

// Service is one service port and where its datagrams go.
type Service struct {
	Port    uint16 `json:"port"`
	Backend string `json:"backend"`
}

// Counter is one count. Stage says who counted: xdp and socket are the two
// programs of the data plane, server is the daemon itself.
type Counter struct {
	Stage   string `json:"stage"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	Value   uint64 `json:"value"`
}

// KindWorker is the kind of a document of workers.
const KindWorker = "Worker"

// Worker is what one worker has done since the start.
type Worker struct {
	Worker int `json:"worker"`
	// Packets that its sockets brought, and of them those that it dropped.
	Packets uint64 `json:"packets"`
	Dropped uint64 `json:"dropped"`
	// Lanes counts Packets by the lane of the socket.
	Lanes map[string]uint64 `json:"lanes"`
	// SocketDrops counts, by lane, what the kernel dropped because the socket had no
	// room left for it: those are not among Packets.
	SocketDrops map[string]uint64 `json:"socket_drops"`
}

// Generation is one state secret, by whose number ids know it.
type Generation struct {
	Generation uint8 `json:"generation"`
	// Newest: new ids and cookies are made with it.
	Newest bool `json:"newest"`
	// LiveIDs carry it; one that is not the newest goes when there are none.
	LiveIDs uint32 `json:"live_ids"`
}

// DrainRequest is the body of POST /v1/drain.
type DrainRequest struct {
	// Timeout ends the sessions that are left then; 0: never.
	Timeout int64 `json:"timeout_ns"`
}

// Source is what the API shows and does. Its methods are called from several
// goroutines at once.
type Source interface {
	Status() Status
	// Sessions calls f for each session, in whatever state, until f returns false.
	// It holds up nobody's packets: sessions that come or go meanwhile may be missed.
	Sessions(f func(Live) bool)
	Counters() []Counter
	// Workers returns what each worker has done.
	Workers() []Worker
	// Events is what happened last.
	Events() *Events
	// Drain refuses new sessions from now on and lets the daemon end with the
	// last one, or after timeout if that is not 0. Again: with another timeout.
	Drain(timeout time.Duration)
	// TakeSocketProgram exchanges the program that chooses among the daemon's sockets
	// for the one that loader.OfferSocketProgram offers.
	TakeSocketProgram() error
	// RotateState makes the next generation of the state secret and returns all
	// that are in use.
	RotateState() ([]Generation, error)
}
