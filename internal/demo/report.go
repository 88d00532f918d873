// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Kind is the report's kind in the command line's JSON documents.
const Kind = "DemoReport"

// Report is what one run of the demo saw, and how it is judged. Durations are
// in nanoseconds in JSON.
type Report struct {
	Passed  bool          `json:"passed"`
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took_ns"`
	Kernel  string        `json:"kernel"`
	// XDP is the edge's mode as the kernel tells it: native or generic.
	XDP string `json:"xdp"`
	// Handshake is the time from the client's start to its open session.
	Handshake time.Duration `json:"handshake_ns"`
	Inits     int           `json:"inits"` // INIT packets that the client sent for it
	// SessionID is the id that named the session at the edge when it began.
	SessionID wire.ID `json:"session_id"`

	Rate  int     `json:"rate"` // datagrams each second
	Size  int     `json:"size"` // bytes of each
	Whole Account `json:"whole"`
	// Strangers are datagrams at the service that the client had not sent.
	Strangers int            `json:"strangers"`
	Refused   map[string]int `json:"refused"` // datagrams that the client's session returned, by error

	Moves   []Move   `json:"moves"`
	Spans   []Span   `json:"spans"`
	Attacks []Attack `json:"attacks"`

	// Paths are the addresses that the edge had validated, one after another.
	Paths    []netip.AddrPort  `json:"paths"`
	Allowed  []netip.Addr      `json:"client_addresses"`
	Sessions []control.Session `json:"sessions"`
	Counters []control.Counter `json:"counters"` // that are not zero
	// Left is what the edge left behind at its end.
	Left []string `json:"left"`

	SessionList string `json:"-"` // as `session list` prints it

	Expectations []Expectation `json:"expectations"`
}

// Move is one change of the client's address.
type Move struct {
	Name string `json:"name"`
	How  string `json:"how"`
	// From and To are the client's addresses as the edge sees them.
	From netip.AddrPort `json:"from"`
	To   netip.AddrPort `json:"to"`

	// Counted from the instant when the network changed, or came back where there
	// was none meanwhile (Offline): the first packet on the new path, seen
	// on the wire; the first datagram sent on it, at the service; its answer, at
	// the client; the edge's commit of the validated path.
	FirstPacket time.Duration `json:"first_packet_ns"`
	FirstByte   time.Duration `json:"first_byte_ns"`
	FirstAnswer time.Duration `json:"first_answer_ns"`
	Commit      time.Duration `json:"commit_ns"`
	// Outage is the time without any path: from the old one's death to the first
	// packet on the new one. None where the old one outlived the move.
	Outage time.Duration `json:"outage_ns"`
	// Offline is how long the client was kept without any network.
	Offline time.Duration `json:"offline_ns"`

	Account Account `json:"datagrams"`
	// Excused are the losses among them that no protocol can prevent: sent while
	// the old path was dead and the new one not in use yet.
	Excused int `json:"excused"`
	// Seamless: the old path outlived the move, so there is no excuse.
	Seamless bool `json:"seamless"`
}

// Span is a stretch of time between moves.
type Span struct {
	Name    string  `json:"name"`
	Flood   bool    `json:"flood"` // under a flood
	Account Account `json:"datagrams"`
}

// Attack is what the attacker tried in one way and what became of it.
type Attack struct {
	Name string `json:"name"`
	What string `json:"what"`
	// Volleys are its parts; the sums of them follow.
	Volleys     []Volley `json:"volleys"`
	Sent        uint64   `json:"sent"`
	SentBytes   uint64   `json:"sent_bytes"`
	Answers     uint64   `json:"answers"` // to the attacker's own address
	AnswerBytes uint64   `json:"answer_bytes"`
	// Stopped are the counters of the edge that it moved; Fate tells them in words.
	Stopped []control.Counter `json:"stopped"`
	Fate    string            `json:"fate"`

	campaign campaign
}

// Expectation is one thing that must hold.
type Expectation struct {
	Text   string `json:"text"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// count sums the counters of a stage under any of the reasons; an empty stage
// means every one.
func count(counters []control.Counter, stage string, reasons ...string) uint64 {
	var sum uint64
	for _, c := range counters {
		if stage != "" && c.Stage != stage {
			continue
		}
		for _, reason := range reasons {
			if c.Reason == reason {
				sum += c.Value
			}
		}
	}
	return sum
}

// since is the growth of counters from before, without those that did not grow.
func since(before, after []control.Counter) []control.Counter {
	type key struct{ stage, verdict, reason string }
	old := map[key]uint64{}
	for _, c := range before {
		old[key{c.Stage, c.Verdict, c.Reason}] += c.Value
	}
	grown := []control.Counter{}
	for _, c := range after {
		if c.Value -= old[key{c.Stage, c.Verdict, c.Reason}]; c.Value > 0 {
			grown = append(grown, c)
		}
	}
	return grown
}
