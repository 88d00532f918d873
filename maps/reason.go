// SPDX-License-Identifier: Apache-2.0

package maps

import "github.com/xdp-roam/xdp-roam/bpf"

// Reason says why a packet met its verdict. Its number is part of the
// operator's interface and never changes its meaning.
type Reason uint8

const reasonCount = int(bpf.RoamRoamReasonROAM_REASON_MAX)

// The reasons; bpf/types.h explains each.
const (
	ReasonNotIP            Reason = Reason(bpf.RoamRoamReasonROAM_REASON_NOT_IP)
	ReasonNotUDP           Reason = Reason(bpf.RoamRoamReasonROAM_REASON_NOT_UDP)
	ReasonFragment         Reason = Reason(bpf.RoamRoamReasonROAM_REASON_FRAGMENT)
	ReasonNotListener      Reason = Reason(bpf.RoamRoamReasonROAM_REASON_NOT_LISTENER)
	ReasonExtensionHeaders Reason = Reason(bpf.RoamRoamReasonROAM_REASON_EXTENSION_HEADERS)
	ReasonIPMalformed      Reason = Reason(bpf.RoamRoamReasonROAM_REASON_IP_MALFORMED)
	ReasonVLANDepth        Reason = Reason(bpf.RoamRoamReasonROAM_REASON_VLAN_DEPTH)
	ReasonUnknownProtocol  Reason = Reason(bpf.RoamRoamReasonROAM_REASON_UNKNOWN_PROTOCOL)

	ReasonMain        Reason = Reason(bpf.RoamRoamReasonROAM_REASON_MAIN)
	ReasonCandidate   Reason = Reason(bpf.RoamRoamReasonROAM_REASON_CANDIDATE)
	ReasonInit        Reason = Reason(bpf.RoamRoamReasonROAM_REASON_INIT)
	ReasonInitCookie  Reason = Reason(bpf.RoamRoamReasonROAM_REASON_INIT_COOKIE)
	ReasonInitVersion Reason = Reason(bpf.RoamRoamReasonROAM_REASON_INIT_VERSION)
	ReasonInitSlow    Reason = Reason(bpf.RoamRoamReasonROAM_REASON_INIT_SLOW)
	ReasonReset       Reason = Reason(bpf.RoamRoamReasonROAM_REASON_RESET)
	ReasonQUIC        Reason = Reason(bpf.RoamRoamReasonROAM_REASON_QUIC)
	ReasonDTLS        Reason = Reason(bpf.RoamRoamReasonROAM_REASON_DTLS)
	ReasonMainXSK     Reason = Reason(bpf.RoamRoamReasonROAM_REASON_MAIN_XSK)
	ReasonUnsteered   Reason = Reason(bpf.RoamRoamReasonROAM_REASON_UNSTEERED)

	ReasonRetry Reason = Reason(bpf.RoamRoamReasonROAM_REASON_RETRY)

	ReasonShort           Reason = Reason(bpf.RoamRoamReasonROAM_REASON_SHORT)
	ReasonIDForged        Reason = Reason(bpf.RoamRoamReasonROAM_REASON_ID_FORGED)
	ReasonInitMalformed   Reason = Reason(bpf.RoamRoamReasonROAM_REASON_INIT_MALFORMED)
	ReasonMAC1            Reason = Reason(bpf.RoamRoamReasonROAM_REASON_MAC1)
	ReasonCandidateLimit  Reason = Reason(bpf.RoamRoamReasonROAM_REASON_CANDIDATE_LIMIT)
	ReasonHandshakeLimit  Reason = Reason(bpf.RoamRoamReasonROAM_REASON_HANDSHAKE_LIMIT)
	ReasonResetLimit      Reason = Reason(bpf.RoamRoamReasonROAM_REASON_RESET_LIMIT)
	ReasonRetryFailed     Reason = Reason(bpf.RoamRoamReasonROAM_REASON_RETRY_FAILED)
	ReasonWrongDirection  Reason = Reason(bpf.RoamRoamReasonROAM_REASON_WRONG_DIRECTION)
	ReasonGrease          Reason = Reason(bpf.RoamRoamReasonROAM_REASON_GREASE)
	ReasonSourcePortZero  Reason = Reason(bpf.RoamRoamReasonROAM_REASON_SOURCE_PORT_ZERO)
	ReasonVersionLimit    Reason = Reason(bpf.RoamRoamReasonROAM_REASON_VERSION_LIMIT)
	ReasonMainLimit       Reason = Reason(bpf.RoamRoamReasonROAM_REASON_MAIN_LIMIT)
	ReasonForeignUnserved Reason = Reason(bpf.RoamRoamReasonROAM_REASON_FOREIGN_UNSERVED)
	ReasonInitSlowLimit   Reason = Reason(bpf.RoamRoamReasonROAM_REASON_INIT_SLOW_LIMIT)
)

// What XDP makes of a packet for each reason; Verdict has the socket stage's
// differences.
var reasons = [reasonCount]struct {
	name string
	xdp  Verdict
}{
	ReasonNotIP:            {"not_ip", VerdictPass},
	ReasonNotUDP:           {"not_udp", VerdictPass},
	ReasonFragment:         {"fragment", VerdictPass},
	ReasonNotListener:      {"not_listener", VerdictPass},
	ReasonExtensionHeaders: {"extension_headers", VerdictPass},
	ReasonIPMalformed:      {"ip_malformed", VerdictPass},
	ReasonVLANDepth:        {"vlan_depth", VerdictPass},
	ReasonUnknownProtocol:  {"unknown_protocol", VerdictPass},

	ReasonMain:        {"main", VerdictPass},
	ReasonCandidate:   {"candidate", VerdictPass},
	ReasonInit:        {"init", VerdictPass},
	ReasonInitCookie:  {"init_cookie", VerdictPass},
	ReasonInitVersion: {"init_version", VerdictPass},
	ReasonInitSlow:    {"init_slow", VerdictPass},
	ReasonReset:       {"reset", VerdictPass},
	ReasonQUIC:        {"quic", VerdictPass},
	ReasonDTLS:        {"dtls", VerdictPass},
	ReasonMainXSK:     {"main_xsk", VerdictRedirect},
	ReasonUnsteered:   {"unsteered", VerdictPass},

	ReasonRetry: {"retry", VerdictTX},

	ReasonShort:           {"short", VerdictDrop},
	ReasonIDForged:        {"id_forged", VerdictDrop},
	ReasonInitMalformed:   {"init_malformed", VerdictDrop},
	ReasonMAC1:            {"mac1", VerdictDrop},
	ReasonCandidateLimit:  {"candidate_limit", VerdictDrop},
	ReasonHandshakeLimit:  {"handshake_limit", VerdictDrop},
	ReasonResetLimit:      {"reset_limit", VerdictDrop},
	ReasonRetryFailed:     {"retry_failed", VerdictDrop},
	ReasonWrongDirection:  {"wrong_direction", VerdictDrop},
	ReasonGrease:          {"grease", VerdictDrop},
	ReasonSourcePortZero:  {"source_port_zero", VerdictDrop},
	ReasonVersionLimit:    {"version_limit", VerdictDrop},
	ReasonMainLimit:       {"main_limit", VerdictDrop},
	ReasonForeignUnserved: {"foreign_unserved", VerdictDrop},
	ReasonInitSlowLimit:   {"init_slow_limit", VerdictDrop},
}

// String returns the reason's name, such as "id_forged".
func (r Reason) String() string {
	if !r.Known() {
		return nameOf(nil, uint(r), "reason")
	}
	return reasons[r].name
}

// Known reports whether this version has a name for the reason.
func (r Reason) Known() bool { return int(r) < reasonCount && reasons[r].name != "" }

// Verdict returns what the reason implies at the stage. The socket stage
// delivers what XDP hands on, except what no socket of ours understands.
func (r Reason) Verdict(stage Stage) Verdict {
	switch {
	case !r.Known():
		return verdictOfNumber(r)
	case stage == StageXDP || reasons[r].xdp != VerdictPass:
		return reasons[r].xdp
	case r == ReasonUnknownProtocol:
		return VerdictDrop
	}
	return VerdictDeliver
}

// verdictOfNumber judges a reason that a newer data plane counts: drops are
// numbered from the first drop on.
func verdictOfNumber(r Reason) Verdict {
	if r >= ReasonShort {
		return VerdictDrop
	}
	return VerdictPass
}

// Reasons calls f for every reason in the order of its number.
func Reasons(f func(Reason) bool) {
	for r := range Reason(reasonCount) {
		if r.Known() && !f(r) {
			return
		}
	}
}
