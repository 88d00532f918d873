/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Every struct and enum that the data plane shares with Go. bpf2go derives the
 * Go side from this file's BTF, so a layout is written down once, here.
 *
 * Numbers in the enums are part of the operator's interface (counters,
 * metrics, events): a number is never reused and never changes its meaning.
 * A change of any layout raises ROAM_SCHEMA.
 */
#ifndef ROAM_TYPES_H
#define ROAM_TYPES_H

#include <linux/types.h>

#define ROAM_SCHEMA 3

#define ROAM_MAX_CPUS 1024
#define ROAM_MAX_LISTENERS 256 /* open-addressed table, see listeners in maps.h */
#define ROAM_LISTENER_PROBES 8
#define ROAM_MAX_MAC1_KEYS 2   /* the server's key and, while it is rotated, the old one */
#define ROAM_ID_KEYS 4	       /* generations of the id key: bits 28-29 of an id's first word */
#define ROAM_COOKIE_KEYS 4     /* indexed by epoch % 4; two are valid at a time */
#define ROAM_MAX_GROUPS 4      /* reuseport groups: the numbers that a listener can have */
#define ROAM_MAX_WORKERS 1024  /* of a group */
#define ROAM_MAX_LANES 8       /* sockets of a worker: room for each enum roam_lane */
#define ROAM_XSK_QUEUES 64     /* AF_XDP sockets for each interface slot */
#define ROAM_XSK_INTERFACES 16
#define ROAM_TRACE_BYTES 2304  /* of a traced packet, at most */

/* Where a packet's verdict was given. */
enum roam_stage {
	ROAM_STAGE_XDP,
	ROAM_STAGE_SOCKET,
	ROAM_STAGE_MAX,
};

/* What became of a packet at a stage. A reason implies its verdict (reason_verdict in the maps package). */
enum roam_verdict {
	ROAM_VERDICT_PASS,	/* XDP: handed on to the stack, ours or not */
	ROAM_VERDICT_DROP,
	ROAM_VERDICT_TX,	/* XDP: answered in place */
	ROAM_VERDICT_REDIRECT,	/* XDP: to an AF_XDP socket */
	ROAM_VERDICT_DELIVER,	/* socket stage: to a socket */
	ROAM_VERDICT_MAX,
};

/* How a packet reaches userspace. */
enum roam_lane {
	ROAM_LANE_MAIN,		/* id known, source = the slot's validated address */
	ROAM_LANE_CANDIDATE,	/* id known, another source */
	ROAM_LANE_HANDSHAKE,	/* INIT, and what asks for a stateless reset */
	ROAM_LANE_FOREIGN,	/* QUIC and DTLS */
	ROAM_LANE_SINK,		/* socket stage: what it drops; a socket whose filter lets nothing in */
	ROAM_LANE_MAX,
};
_Static_assert(ROAM_LANE_MAX <= ROAM_MAX_LANES, "a place for each lane's socket");

enum roam_reason {
	/* passed on: not ours to judge */
	ROAM_REASON_NOT_IP = 0,
	ROAM_REASON_NOT_UDP = 1,
	ROAM_REASON_FRAGMENT = 2,	/* the stack puts it together; the socket stage judges it */
	ROAM_REASON_NOT_LISTENER = 3,	/* destination address or port is not ours */
	ROAM_REASON_EXTENSION_HEADERS = 4, /* more than the parser follows */
	ROAM_REASON_IP_MALFORMED = 5,	/* the stack's to drop */
	ROAM_REASON_VLAN_DEPTH = 6,	/* more than two tags */
	ROAM_REASON_UNKNOWN_PROTOCOL = 7, /* ours by address, first byte nobody's */
	/* handed on by lane (XDP: pass; socket stage: deliver) */
	ROAM_REASON_MAIN = 16,
	ROAM_REASON_CANDIDATE = 17,
	ROAM_REASON_INIT = 18,		/* no cookie demanded */
	ROAM_REASON_INIT_COOKIE = 19,	/* with a valid cookie */
	ROAM_REASON_INIT_VERSION = 20,	/* unknown version: Go answers VERSIONS */
	ROAM_REASON_INIT_SLOW = 21,	/* cookie demanded, no RETRY in place (socket stage, headers with options): Go answers it */
	ROAM_REASON_RESET = 22,		/* id of ours without a session: the reset lane */
	ROAM_REASON_QUIC = 23,
	ROAM_REASON_DTLS = 24,
	ROAM_REASON_MAIN_XSK = 25,	/* XDP: redirect */
	ROAM_REASON_UNSTEERED = 26,	/* socket stage: no socket for the lane, the kernel's hash chose one */
	/* answered in place */
	ROAM_REASON_RETRY = 32,
	/* dropped */
	ROAM_REASON_SHORT = 48,		/* truncated for its type, or UDP length beyond the packet */
	ROAM_REASON_ID_FORGED = 49,	/* the id's tag is wrong */
	ROAM_REASON_INIT_MALFORMED = 50, /* wrong length, non-zero reserved bytes */
	ROAM_REASON_MAC1 = 51,
	ROAM_REASON_CANDIDATE_LIMIT = 52,
	ROAM_REASON_HANDSHAKE_LIMIT = 53,
	ROAM_REASON_RESET_LIMIT = 54,
	ROAM_REASON_RETRY_FAILED = 55,	/* source or destination not unicast, or the packet cannot be resized */
	ROAM_REASON_WRONG_DIRECTION = 56, /* RETRY, RESP, VERSIONS: only clients receive those */
	ROAM_REASON_GREASE = 57,	/* 0x0D..0x0F */
	ROAM_REASON_SOURCE_PORT_ZERO = 58,
	ROAM_REASON_VERSION_LIMIT = 59,	/* unknown versions */
	ROAM_REASON_MAIN_LIMIT = 60,	/* main lane of a slot with the police flag */
	ROAM_REASON_FOREIGN_UNSERVED = 61, /* socket stage: QUIC or DTLS, and no socket for it */
	ROAM_REASON_INIT_SLOW_LIMIT = 62,
	ROAM_REASON_MAX = 64,
};

/* Kind of a session: which protocol carries its id. */
enum roam_kind {
	ROAM_KIND_NONE,
	ROAM_KIND_ROAM,
	ROAM_KIND_QUIC,
	ROAM_KIND_DTLS,
};

/* Flags in the state byte of a slot. */
enum roam_slot_flag {
	ROAM_SLOT_POLICE = 1, /* also the main lane goes through the slot's buckets */
	ROAM_SLOT_TRACE = 2,  /* someone looks at the session's packets */
};

/*
 * One id of one session: exactly one cache line. Go writes it through the
 * mapping in 8-byte words; the data plane writes the buckets (candidate lane)
 * and, for QUIC and DTLS, seen. There is no sequence counter: a torn read picks a
 * slower lane and nothing else, because Go checks source and id again.
 */
struct roam_slot {
	__u64 id[2];	    /* all zero: free */
	__u64 control;	    /* owner 0-15 | kind 16-23 | flags 24-31 | generation 32-63 */
	__u64 addr[2];	    /* validated address, IPv4-mapped, network order; all zero: none yet */
	__u16 port;	    /* network order */
	__u16 spare;
	__u32 seen;	    /* QUIC and DTLS: coarse seconds */
	__u64 bucket[ROAM_STAGE_MAX]; /* GCRA: theoretical arrival time of the candidate lane */
};
_Static_assert(sizeof(struct roam_slot) == 64, "a slot is one cache line");
_Static_assert(__builtin_offsetof(struct roam_slot, port) == 40, "path is words 3..5");
_Static_assert(__builtin_offsetof(struct roam_slot, bucket) == 48, "each bucket is a word of its own");

/* A SipHash key: two little-endian words. */
struct roam_sipkey {
	__u64 k0, k1;
};

/*
 * The key of ids as SipHash-1-3 goes on from it: the state after the initialization
 * and the part of the first round that no input reaches (sip_round_begin).
 */
struct roam_id_key {
	__u64 v0, v1, v2, v3;
};

struct roam_cookie_key {
	struct roam_sipkey key;
	__u32 epoch;	/* Unix time / 60 that the key is for; 0: none */
	__u32 pad;
};

enum roam_cookie_policy {
	ROAM_COOKIE_AUTO,
	ROAM_COOKIE_ALWAYS,
	ROAM_COOKIE_NEVER,
};

/*
 * Rates of the data plane's buckets at the XDP stage, twice that at the socket
 * stage: each second, for each CPU unless said otherwise.
 */
struct roam_limits {
	__u32 candidate_rate, candidate_burst;		 /* each CPU, all slots together */
	__u32 slot_candidate_rate, slot_candidate_burst; /* each slot: 4096/s, burst 1024 */
	__u32 handshake_rate, handshake_burst;
	__u32 uncookied_rate, uncookied_burst;		 /* INITs without a cookie before auto demands one */
	__u32 reset_rate, reset_burst;
	__u32 version_rate, version_burst;
	__u32 slow_rate, slow_burst;			 /* INITs to which Go answers RETRY */
	__u32 event_rate, event_burst;			 /* both stages together */
	__u32 trace_rate, trace_burst;			 /* both stages together */
};

/* What the control plane tells the data plane. Written by the one owning process. */
struct roam_config {
	__u32 schema;
	__u32 slot_mask;	/* slots - 1 */
	__u32 unix_base;	/* Unix time = CLOCK_MONOTONIC seconds + this */
	__u16 server_id;	/* 0: single server */
	__u8 cookie_policy;	/* enum roam_cookie_policy */
	__u8 pad;
	struct roam_id_key id_keys[ROAM_ID_KEYS];	/* zero: generation not in use, its ids are forged */
	struct roam_sipkey mac1_keys[ROAM_MAX_MAC1_KEYS]; /* zero: none */
	struct roam_cookie_key cookie_keys[ROAM_COOKIE_KEYS];
	struct roam_limits limits;
};

enum roam_listener_flag {
	/*
	 * An entry for any address holds in XDP too. Without it only at the
	 * socket stage, where the stack has decided already what is ours:
	 * to XDP it would also claim what this host forwards to others.
	 */
	ROAM_LISTENER_EVERYWHERE = 1,
};

/* A destination that is ours. addr all zero with a port: any address. Where an entry goes: listener.h. */
struct roam_listener {
	__u64 addr[2];	/* IPv4-mapped, network order */
	__u16 port;	/* network order; 0: free entry */
	__u16 index;	/* of the group whose sockets get its packets: below ROAM_MAX_GROUPS */
	__u32 flags;	/* enum roam_listener_flag */
	__u64 reserved;
};
_Static_assert(sizeof(struct roam_listener) == 32, "listener");

struct roam_bucket {
	__u64 tat; /* GCRA: theoretical arrival time, in ticks x rate (bucket.h); 0: full */
};

/* The time at the last jiffy that this CPU looked at it: see clock.h. */
struct roam_clock {
	__u64 jiffies;
	__u64 ticks;	/* 2^20 ns, CLOCK_MONOTONIC */
	__u64 seconds;
};

/* One CPU's counters and buckets, whole cache lines; read through the mapping without a system call. */
struct roam_cpu {
	__u64 packets[ROAM_STAGE_MAX][ROAM_REASON_MAX];
	struct roam_bucket candidate[ROAM_STAGE_MAX];
	struct roam_bucket handshake[ROAM_STAGE_MAX];
	struct roam_bucket reset[ROAM_STAGE_MAX];
	struct roam_bucket version[ROAM_STAGE_MAX];
	struct roam_bucket slow[ROAM_STAGE_MAX];
	struct roam_bucket uncookied[ROAM_STAGE_MAX];
	struct roam_bucket event;
	__u64 events_lost;
	struct roam_clock clock;
	struct roam_bucket trace[2]; /* what goes on, and what is dropped */
	__u64 traces_lost;
	__u64 pad[4];
};
_Static_assert(sizeof(struct roam_cpu) % 64 == 0, "whole cache lines");

/* What the ring buffer carries: rate-limited, a hint for people, never a fact to act on. */
struct roam_event {
	__u64 ktime;	/* ns, CLOCK_MONOTONIC */
	__u64 id[2];	/* zero where the packet has none */
	__u64 src[2];
	__u64 dst[2];
	__u16 sport, dport;	/* network order */
	__u8 stage, reason;
	__u16 length;	/* of the UDP payload, at most 65535 */
	__u32 ifindex;	/* 0 at the socket stage */
	__u32 pad;
};
_Static_assert(sizeof(struct roam_event) == 72, "event");

/*
 * A packet of a traced session (ROAM_SLOT_TRACE): rate-limited too. It begins
 * with the frame at the XDP stage, with the IP header at the socket stage.
 */
struct roam_trace {
	struct roam_event event;
	__u32 length;	/* of the whole frame, or IP packet */
	__u16 captured;	/* how much of it is in data */
	__u16 queue;	/* XDP: receive queue */
	__u8 data[ROAM_TRACE_BYTES];
};
_Static_assert(sizeof(struct roam_trace) == 80 + ROAM_TRACE_BYTES, "trace");

#endif
