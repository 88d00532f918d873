// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import "github.com/xdp-roam/xdp-roam/bpf"

const (
	reasonNotIP       = bpf.RoamRoamReasonROAM_REASON_NOT_IP
	reasonNotUDP      = bpf.RoamRoamReasonROAM_REASON_NOT_UDP
	reasonFragment    = bpf.RoamRoamReasonROAM_REASON_FRAGMENT
	reasonNotListener = bpf.RoamRoamReasonROAM_REASON_NOT_LISTENER
	reasonExtHeaders  = bpf.RoamRoamReasonROAM_REASON_EXTENSION_HEADERS
	reasonIPMalformed = bpf.RoamRoamReasonROAM_REASON_IP_MALFORMED
	reasonVLANDepth   = bpf.RoamRoamReasonROAM_REASON_VLAN_DEPTH
	reasonUnknown     = bpf.RoamRoamReasonROAM_REASON_UNKNOWN_PROTOCOL

	reasonMain        = bpf.RoamRoamReasonROAM_REASON_MAIN
	reasonCandidate   = bpf.RoamRoamReasonROAM_REASON_CANDIDATE
	reasonInit        = bpf.RoamRoamReasonROAM_REASON_INIT
	reasonInitCookie  = bpf.RoamRoamReasonROAM_REASON_INIT_COOKIE
	reasonInitVersion = bpf.RoamRoamReasonROAM_REASON_INIT_VERSION
	reasonInitSlow    = bpf.RoamRoamReasonROAM_REASON_INIT_SLOW
	reasonReset       = bpf.RoamRoamReasonROAM_REASON_RESET
	reasonQUIC        = bpf.RoamRoamReasonROAM_REASON_QUIC
	reasonDTLS        = bpf.RoamRoamReasonROAM_REASON_DTLS
	reasonMainXSK     = bpf.RoamRoamReasonROAM_REASON_MAIN_XSK
	reasonUnsteered   = bpf.RoamRoamReasonROAM_REASON_UNSTEERED

	reasonRetry = bpf.RoamRoamReasonROAM_REASON_RETRY

	reasonShort          = bpf.RoamRoamReasonROAM_REASON_SHORT
	reasonForged         = bpf.RoamRoamReasonROAM_REASON_ID_FORGED
	reasonInitMalformed  = bpf.RoamRoamReasonROAM_REASON_INIT_MALFORMED
	reasonMAC1           = bpf.RoamRoamReasonROAM_REASON_MAC1
	reasonCandidateLimit = bpf.RoamRoamReasonROAM_REASON_CANDIDATE_LIMIT
	reasonHandshakeLimit = bpf.RoamRoamReasonROAM_REASON_HANDSHAKE_LIMIT
	reasonResetLimit     = bpf.RoamRoamReasonROAM_REASON_RESET_LIMIT
	reasonRetryFailed    = bpf.RoamRoamReasonROAM_REASON_RETRY_FAILED
	reasonDirection      = bpf.RoamRoamReasonROAM_REASON_WRONG_DIRECTION
	reasonGrease         = bpf.RoamRoamReasonROAM_REASON_GREASE
	reasonSourcePortZero = bpf.RoamRoamReasonROAM_REASON_SOURCE_PORT_ZERO
	reasonVersionLimit   = bpf.RoamRoamReasonROAM_REASON_VERSION_LIMIT
	reasonMainLimit      = bpf.RoamRoamReasonROAM_REASON_MAIN_LIMIT
	reasonUnserved       = bpf.RoamRoamReasonROAM_REASON_FOREIGN_UNSERVED
)

// actionOf is the XDP action that a reason implies.
func actionOf(r bpf.RoamRoamReason) uint32 {
	switch {
	case r == reasonMainXSK:
		return xdpRedirect
	case r == reasonRetry:
		return xdpTX
	case r >= reasonShort:
		return xdpDrop
	}
	return xdpPass
}
