// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// KindEvent is the kind of a document of events.
const KindEvent = "Event"

// Event is something that happened, told to people: what is decided is decided
// elsewhere, and counted there.
type Event struct {
	// Number counts the events of a daemon from 1, in the order they were recorded.
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"`
	// Class is one of EventClasses, Name what happened: the name of the log line.
	// For a packet it is the verdict.
	Class string `json:"class"`
	Name  string `json:"name"`
	// Session, its service, worker and client; zero where the event is not of one. What
	// is zero is left out of the JSON, so that worker 0 is the one of a session without.
	Session  wire.ID             `json:"session,omitzero"`
	Service  uint16              `json:"service,omitzero"`
	Worker   int                 `json:"worker,omitzero"`
	PeerKey  handshake.PublicKey `json:"peer_key,omitzero"`
	PeerName string              `json:"peer_name,omitempty"`
	// Remote is the client's address that the event is about, From where the session
	// was before, or still is.
	Remote netip.AddrPort `json:"remote,omitzero"`
	From   netip.AddrPort `json:"from,omitzero"`
	Reason string         `json:"reason,omitempty"`
	// Stage, ID, Local and Bytes are of a packet that the data plane shows: where it
	// was judged, the id that it carries, where it went, its UDP payload.
	Stage string         `json:"stage,omitempty"`
	ID    wire.ID        `json:"id,omitzero"`
	Local netip.AddrPort `json:"local,omitzero"`
	Bytes int            `json:"bytes,omitzero"`
	// Lost is how many events, of any class, whoever follows has missed before this one.
	Lost uint64 `json:"lost,omitzero"`
}

// The classes of events. Each has a memory of its own, so that what anyone on the
// Internet can bring about pushes nothing else out.
const (
	ClassSession = "session" // one came or went
	ClassMove    = "move"
	ClassRefusal = "refusal" // a client was not let in
	ClassAlarm   = "alarm"
	ClassPacket  = "packet" // a sample of what the data plane drops, answers or finds elsewhere
	ClassEdge    = "edge"   // of the server itself
)

// EventClasses are the values of Event.Class.
var EventClasses = []string{ClassSession, ClassMove, ClassRefusal, ClassAlarm, ClassPacket, ClassEdge}

// EventQuery says which events are wanted. The zero value asks for all that the
// daemon remembers. Of several values in one field any will do.
type EventQuery struct {
	// Kinds are classes or names.
	Kinds []string
	// Sessions are beginnings of ids, of the session or of the packet.
	Sessions []string
	Services []uint16
	// Peers are names, or beginnings of public keys.
	Peers   []string
	Workers []int
	Since   time.Time
	// Last keeps the last so many of those that are remembered; negative: none of them.
	Last int
	// Follow goes on with those that happen from now on.
	Follow bool
}

// Check returns an error that wraps ErrQuery where no daemon would understand q.
func (q *EventQuery) Check() error {
	return (&SessionQuery{IDs: q.Sessions}).Check()
}

// match reports whether e is wanted.
func (q *EventQuery) match(e *Event) bool {
	if len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Class) && !slices.Contains(q.Kinds, e.Name) || e.Time.Before(q.Since) {
		return false
	}
	if len(q.Services)+len(q.Peers)+len(q.Workers)+len(q.Sessions) == 0 {
		return true
	}
	if e.PeerKey.IsZero() && len(q.Peers)+len(q.Services)+len(q.Workers) > 0 {
		return false // not of a client
	}
	s := Session{ID: e.Session, CurrentID: e.ID, Service: e.Service, Owner: e.Worker, PeerKey: e.PeerKey, PeerName: e.PeerName}
	of := SessionQuery{IDs: q.Sessions, Services: q.Services, Peers: q.Peers, Workers: q.Workers, States: []string{StateAll}}
	return of.match(&s)
}

// values writes q as the query of a URL.
func (q *EventQuery) values() url.Values {
	v := (&SessionQuery{IDs: q.Sessions, Services: q.Services, Peers: q.Peers, Workers: q.Workers}).values()
	v["kind"] = q.Kinds
	if !q.Since.IsZero() {
		v.Set("since", q.Since.Format(time.RFC3339Nano))
	}
	if q.Last != 0 {
		v.Set("last", strconv.Itoa(q.Last))
	}
	if q.Follow {
		v.Set("follow", "true")
	}
	return v
}

// parseEventQuery reads what values writes.
func parseEventQuery(v url.Values) (q EventQuery, err error) {
	p := parameters{values: v}
	q.Kinds, q.Since, q.Follow = p.texts("kind"), p.time("since"), p.flag("follow")
	if text := p.text("last"); text != "" {
		if q.Last, err = strconv.Atoi(text); err != nil {
			p.fail("last", text, "a number")
		}
	}
	sessions := p.sessions()
	q.Sessions, q.Services, q.Peers, q.Workers = sessions.IDs, sessions.Services, sessions.Peers, sessions.Workers
	if err := p.done(); err != nil {
		return q, err
	}
	return q, q.Check()
}
