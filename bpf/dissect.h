/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What a datagram is by its first byte (RFC 7983, RFC 9443, and ROAM/1 in the
 * range that those leave free), and where the id lies that names its session.
 */
#ifndef ROAM_DISSECT_H
#define ROAM_DISSECT_H

#include <linux/udp.h>

#include "common.h"

#define ROAM_INIT 0x08
#define ROAM_RETRY 0x09
#define ROAM_RESP 0x0a
#define ROAM_VERSIONS 0x0b
#define ROAM_DATA 0x0c
#define ROAM_GREASE_FIRST 0x0d
#define ROAM_GREASE_LAST 0x0f

#define ROAM_ID_LEN 16
#define ROAM_INIT_LEN 1200
#define ROAM_DATA_ID_AT 8
#define ROAM_DATA_MIN 41 /* header 24, tag 16, at least one byte of frames */

#define DTLS_FIRST 20
#define DTLS_LAST 63
#define DTLS12_CID 25	       /* RFC 9146 */
#define DTLS12_CID_AT 11
#define DTLS13_UNIFIED 32      /* RFC 9147: 0b001CSLEE */
#define DTLS13_HAS_CID 0x10
#define DTLS13_CID_AT 1
#define QUIC_SHORT_FIRST 64
#define QUIC_SHORT_LAST 127
#define QUIC_SHORT_CID_AT 1
#define QUIC_LONG_FIRST 192
#define QUIC_LONG_DCID_LEN_AT 5
#define QUIC_LONG_DCID_AT 6

/* UDP and the beginning of a DATA packet. */
struct data_packet {
	struct udphdr udp;
	__u8 type;
	__u8 counter[7];
	__u64 id[2];
};
_Static_assert(sizeof(struct data_packet) == 32, "no padding");

struct dissection {
	__u8 reason;  /* INIT, MAIN (a ROAM id), QUIC, DTLS, or a final verdict */
	__u8 kind;    /* enum roam_kind: whose ids; NONE: reason is the verdict */
	__u8 id_at;   /* where the id lies; 0: there is none */
	__u8 minimum; /* shorter ones are truncated */
	bool dcid;    /* QUIC long header: the id is the server's only if it is as long as ours and its tag is right */
};

static __always_inline struct dissection dissect_roam(__u8 first)
{
	struct dissection d = {};

	if (first == ROAM_DATA) {
		d.reason = ROAM_REASON_MAIN;
		d.kind = ROAM_KIND_ROAM;
		d.id_at = ROAM_DATA_ID_AT;
		d.minimum = ROAM_DATA_MIN;
	} else if (first == ROAM_INIT) {
		d.reason = ROAM_REASON_INIT;
		d.kind = ROAM_KIND_ROAM;
	} else if (first >= ROAM_GREASE_FIRST) {
		d.reason = ROAM_REASON_GREASE;
	} else {
		d.reason = ROAM_REASON_WRONG_DIRECTION;
	}
	return d;
}

static __always_inline struct dissection dissect_dtls(__u8 first)
{
	struct dissection d = { .reason = ROAM_REASON_DTLS, .kind = ROAM_KIND_DTLS };

	if (first == DTLS12_CID)
		d.id_at = DTLS12_CID_AT;
	else if (first >= DTLS13_UNIFIED && first & DTLS13_HAS_CID)
		d.id_at = DTLS13_CID_AT;
	if (d.id_at)
		d.minimum = d.id_at + ROAM_ID_LEN;
	return d;
}

static __always_inline struct dissection dissect_quic(__u8 first)
{
	struct dissection d = { .reason = ROAM_REASON_QUIC, .kind = ROAM_KIND_QUIC };

	if (first <= QUIC_SHORT_LAST) {
		d.id_at = QUIC_SHORT_CID_AT;
		d.minimum = QUIC_SHORT_CID_AT + ROAM_ID_LEN;
	} else {
		d.dcid = true;
		d.id_at = QUIC_LONG_DCID_AT;
		d.minimum = QUIC_LONG_DCID_AT;
	}
	return d;
}

static __always_inline struct dissection dissect(__u8 first)
{
	if (first >= ROAM_INIT && first <= ROAM_GREASE_LAST)
		return dissect_roam(first);
	if (first >= DTLS_FIRST && first <= DTLS_LAST)
		return dissect_dtls(first);
	if ((first >= QUIC_SHORT_FIRST && first <= QUIC_SHORT_LAST) || first >= QUIC_LONG_FIRST)
		return dissect_quic(first);
	return (struct dissection){ .reason = ROAM_REASON_UNKNOWN_PROTOCOL };
}

#endif
