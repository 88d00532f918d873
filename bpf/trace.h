/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Traces: the packets of sessions that someone looks at, with what became of
 * them. A slot's flag asks for them, so that others pay nothing. Two buckets for
 * each CPU bound what they cost: one for what goes on and one for what is dropped,
 * so that a flood on a traced id does not push the session's own packets out.
 */
#ifndef ROAM_TRACE_H
#define ROAM_TRACE_H

#include <linux/ip.h>
#include <linux/ipv6.h>

#include "event.h"

/* Room for one packet, or NULL: over the rate, or the reader is too slow. Both are counted. */
static __always_inline struct roam_trace *trace_begin(struct roam_cpu *cpu, const struct packet *p, __u32 reason,
						      __u32 length)
{
	struct roam_config *cfg = config_get();
	struct roam_bucket *bucket = &cpu->trace[is_drop(reason)];
	struct roam_trace *t = NULL;
	__u64 next;

	if (!cfg)
		return NULL;
	next = bucket_next(bucket->tat, clock_get(cpu)->ticks, cfg->limits.trace_rate, cfg->limits.trace_burst);
	if (next) {
		bucket->tat = next;
		t = bpf_ringbuf_reserve(&trace, sizeof(*t), 0);
	}
	if (!t) {
		cpu->traces_lost++;
		return NULL;
	}
	event_fill(&t->event, p, reason);
	t->length = length;
	t->captured = 0;
	t->queue = 0;
	return t;
}

/* A record's room: for IP headers at the socket stage, and for all else. Powers of two. */
#define TRACE_HEADERS 256
#define TRACE_BODY 2048
_Static_assert(TRACE_HEADERS + TRACE_BODY == ROAM_TRACE_BYTES, "a record holds both");

/*
 * The smaller of the two. The mask shows the verifier that it is from 1 to most; the
 * compiler would drop it, and folds comparisons so that Linux 6.1 cannot follow. An n of
 * 0 becomes most, which no helper copies out of a packet that is not there.
 */
static __always_inline __u32 trace_bytes(__u32 n, __u32 most)
{
	n = (n < most ? n : most) - 1;
	asm volatile("" : "+r"(n));
	return (n & (most - 1)) + 1;
}

/* A frame, from its Ethernet header on. Global, as parse() is. */
__noinline int trace_frame(struct xdp_md *ctx, const struct packet *p, __u32 reason)
{
	struct roam_cpu *cpu = cpu_get();
	struct roam_trace *t;
	__u32 n;

	if (!p || !cpu)
		return 0;
	t = trace_begin(cpu, p, reason, bpf_xdp_get_buff_len(ctx));
	if (!t)
		return 0;
	t->queue = ctx->rx_queue_index;
	n = trace_bytes(t->length, TRACE_BODY);
	if (!bpf_xdp_load_bytes(ctx, 0, t->data, n))
		t->captured = n;
	bpf_ringbuf_submit(t, 0);
	return 0;
}

/* The IP header and those behind it: the stack's length fields count them, and ctx->len does not. */
static __always_inline __u32 trace_ip_headers(struct sk_reuseport_md *ctx, bool ipv6)
{
	__u32 at = ipv6 ? offsetof(struct ipv6hdr, payload_len) : offsetof(struct iphdr, tot_len);
	__be16 length;

	if (bpf_skb_load_bytes_relative(ctx, at, &length, sizeof(length), BPF_HDR_START_NET))
		return 0;
	return bpf_ntohs(length) + (ipv6 ? sizeof(struct ipv6hdr) : 0) - ctx->len;
}

/*
 * A packet, from its IP header on; with UDP_GRO a whole train. One helper reads
 * headers and nothing that lies in pages, the other nothing before the UDP header.
 */
static __noinline int trace_skb(struct sk_reuseport_md *ctx, struct roam_cpu *cpu, const struct packet *p, __u32 reason)
{
	struct roam_trace *t;
	__u32 headers, body, n;

	if (!p || !cpu)
		return 0;
	headers = trace_ip_headers(ctx, p->ipv6);
	t = trace_begin(cpu, p, reason, headers + ctx->len);
	if (!t)
		return 0;
	body = trace_bytes(ctx->len, TRACE_BODY);
	n = trace_bytes(headers, TRACE_HEADERS);
	if (headers <= TRACE_HEADERS && !bpf_skb_load_bytes_relative(ctx, 0, t->data, n, BPF_HDR_START_NET) &&
	    !bpf_skb_load_bytes(ctx, 0, t->data + n, body))
		t->captured = n + body;
	bpf_ringbuf_submit(t, 0);
	return 0;
}

#endif
