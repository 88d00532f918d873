// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"strconv"
	"strings"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// Names by which operators see the enums of bpf/types.h: the C name without
// its prefix, in lower case. A test compares them with the object's BTF.

// Kind is the protocol that carries a session's id.
type Kind uint8

// The kinds of session.
const (
	KindNone Kind = Kind(bpf.RoamRoamKindROAM_KIND_NONE)
	KindROAM Kind = Kind(bpf.RoamRoamKindROAM_KIND_ROAM)
	KindQUIC Kind = Kind(bpf.RoamRoamKindROAM_KIND_QUIC)
	KindDTLS Kind = Kind(bpf.RoamRoamKindROAM_KIND_DTLS)
)

var kindNames = []string{KindNone: "none", KindROAM: "roam", KindQUIC: "quic", KindDTLS: "dtls"}

// String returns the kind's name, such as "roam".
func (k Kind) String() string { return nameOf(kindNames, uint(k), "kind") }

// Flags of a slot.
type Flags uint8

// The flags.
const (
	// FlagPolice sends the session's main lane through its buckets too.
	FlagPolice Flags = Flags(bpf.RoamRoamSlotFlagROAM_SLOT_POLICE)
	// FlagTrace gives what comes for the id to a TraceReader too.
	FlagTrace Flags = Flags(bpf.RoamRoamSlotFlagROAM_SLOT_TRACE)
)

// String returns the names of the flags that are set, such as "police,trace", or "".
func (f Flags) String() string {
	var names []string
	if f&FlagPolice != 0 {
		names = append(names, "police")
	}
	if f&FlagTrace != 0 {
		names = append(names, "trace")
	}
	if rest := f &^ (FlagPolice | FlagTrace); rest != 0 {
		names = append(names, "flags("+strconv.Itoa(int(rest))+")")
	}
	return strings.Join(names, ",")
}

// Lane is a way by which a packet reaches userspace.
type Lane uint16

// The lanes that have sockets.
const (
	LaneMain      Lane = Lane(bpf.RoamRoamLaneROAM_LANE_MAIN)
	LaneCandidate Lane = Lane(bpf.RoamRoamLaneROAM_LANE_CANDIDATE)
	LaneHandshake Lane = Lane(bpf.RoamRoamLaneROAM_LANE_HANDSHAKE)
	LaneForeign   Lane = Lane(bpf.RoamRoamLaneROAM_LANE_FOREIGN)
	LaneSink      Lane = Lane(bpf.RoamRoamLaneROAM_LANE_SINK) // Sockets.Sink
)

var laneNames = []string{LaneMain: "main", LaneCandidate: "candidate", LaneHandshake: "handshake", LaneForeign: "foreign", LaneSink: "sink"}

// String returns the lane's name, such as "main".
func (l Lane) String() string { return nameOf(laneNames, uint(l), "lane") }

// Stage is where in the data plane a packet is judged.
type Stage uint8

// The stages, in the order in which a packet meets them.
const (
	StageXDP    Stage = Stage(bpf.RoamRoamStageROAM_STAGE_XDP)
	StageSocket Stage = Stage(bpf.RoamRoamStageROAM_STAGE_SOCKET)

	stageCount = int(bpf.RoamRoamStageROAM_STAGE_MAX)
)

var stageNames = []string{StageXDP: "xdp", StageSocket: "socket"}

// String returns "xdp" or "socket".
func (s Stage) String() string { return nameOf(stageNames, uint(s), "stage") }

// Verdict is what became of a packet at a stage.
type Verdict uint8

// The verdicts.
const (
	VerdictPass     Verdict = Verdict(bpf.RoamRoamVerdictROAM_VERDICT_PASS)
	VerdictDrop     Verdict = Verdict(bpf.RoamRoamVerdictROAM_VERDICT_DROP)
	VerdictTX       Verdict = Verdict(bpf.RoamRoamVerdictROAM_VERDICT_TX)
	VerdictRedirect Verdict = Verdict(bpf.RoamRoamVerdictROAM_VERDICT_REDIRECT)
	VerdictDeliver  Verdict = Verdict(bpf.RoamRoamVerdictROAM_VERDICT_DELIVER)
)

var verdictNames = []string{
	VerdictPass: "pass", VerdictDrop: "drop", VerdictTX: "tx", VerdictRedirect: "redirect", VerdictDeliver: "deliver",
}

// String returns the verdict's name, such as "drop".
func (v Verdict) String() string { return nameOf(verdictNames, uint(v), "verdict") }

// CookiePolicy says when the data plane demands a cookie of an INIT.
type CookiePolicy uint8

// The cookie policies.
const (
	CookieAuto   CookiePolicy = CookiePolicy(bpf.RoamRoamCookiePolicyROAM_COOKIE_AUTO)
	CookieAlways CookiePolicy = CookiePolicy(bpf.RoamRoamCookiePolicyROAM_COOKIE_ALWAYS)
	CookieNever  CookiePolicy = CookiePolicy(bpf.RoamRoamCookiePolicyROAM_COOKIE_NEVER)
)

var cookiePolicyNames = []string{CookieAuto: "auto", CookieAlways: "always", CookieNever: "never"}

// String returns the policy's name, such as "auto".
func (p CookiePolicy) String() string { return nameOf(cookiePolicyNames, uint(p), "cookie_policy") }

// nameOf returns the i-th name, or enum(i) for a number that a newer data
// plane may use.
func nameOf(names []string, i uint, enum string) string {
	if i < uint(len(names)) && names[i] != "" {
		return names[i]
	}
	return enum + "(" + strconv.FormatUint(uint64(i), 10) + ")"
}
