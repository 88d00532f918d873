/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* What every header of the data plane starts from. */
#ifndef ROAM_COMMON_H
#define ROAM_COMMON_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "types.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Go and other CPUs write behind the compiler's back. */
#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/*
 * The length between two packet pointers. The verifier refuses arithmetic on
 * pointers cut to 32 bits, and without the barrier the compiler cuts them.
 */
#define BYTES_BETWEEN(from, to)                              \
	({                                                   \
		__u64 bytes = (__u64)(to) - (__u64)(from);   \
		asm volatile("" : "+r"(bytes));              \
		(__u32)bytes;                                \
	})

/* No reason yet: go on. */
#define UNDECIDED ROAM_REASON_MAX

/* What a fast path returns instead of an action: the slow path's; nothing is counted or changed. */
#define PATH_DECLINED (-1)

/* An address pair and what surrounds it, as both programs see it. Addresses are IPv4-mapped, network order. */
struct packet {
	__u64 src[2];
	__u64 dst[2];
	__u64 id[2];	/* zero until the dissector has found one */
	__u16 sport;	/* network order */
	__u16 dport;	/* network order */
	__u16 network;	/* XDP: offset of the IP header */
	__u16 payload;	/* offset of the UDP payload: in the frame, or from the UDP header at the socket stage */
	__u16 length;	/* of the UDP payload */
	__u8 stage;	/* enum roam_stage */
	bool ipv6;
	bool plain;	/* no IP options and no extension headers */
	bool short_udp; /* the UDP length is below 8 or beyond the packet */
	bool traced;	/* of a session with ROAM_SLOT_TRACE */
	__u32 ifindex;	/* 0 at the socket stage */
};

/* bytes 0000 ffff a.b.c.d, as a little-endian load sees them */
#define IPV4_MAPPED_LOW(addr) ((__u64)(addr) << 32 | 0xffff0000ULL)

static __always_inline bool is_ipv4_mapped(__u64 addr0, __u64 addr1)
{
	return !addr0 && (__u32)addr1 == (__u32)IPV4_MAPPED_LOW(0);
}

#endif
