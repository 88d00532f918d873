/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The XDP stage. The slow path is complete: every packet can take it. The fast
 * path takes what comes most, established sessions and made-up ids in plain
 * packets, and leaves the rest without having counted or changed anything.
 */
#ifndef ROAM_XDP_H
#define ROAM_XDP_H

#include "event.h"
#include "judge.h"
#include "listener.h"
#include "parse.h"

/*
 * Set when the program is loaded, for each interface: the verifier removes the
 * redirect where the mode has no AF_XDP sockets (11 ns), and the interface's
 * place in xsks costs nothing.
 */
volatile const bool xsk_enabled = false;
volatile const __u32 xsk_interface = 0;

#define FAST_PATH_DECLINED (-1)

static __always_inline int xdp_action(__u32 reason)
{
	if (reason == ROAM_REASON_RETRY)
		return XDP_TX;
	return is_drop(reason) ? XDP_DROP : XDP_PASS;
}

/*
 * A main-lane packet to the AF_XDP socket of its queue, or to the stack where
 * there is none: bpf_redirect_map returns the action in its flags then.
 */
static __always_inline int xdp_main(struct xdp_md *ctx, __u32 *reason)
{
	__u32 queue = ctx->rx_queue_index;
	int action;

	*reason = ROAM_REASON_MAIN;
	if (!xsk_enabled || queue >= ROAM_XSK_QUEUES)
		return XDP_PASS;
	action = bpf_redirect_map(&xsks, xsk_interface * ROAM_XSK_QUEUES + queue, XDP_PASS);
	if (action == XDP_REDIRECT)
		*reason = ROAM_REASON_MAIN_XSK;
	return action;
}

static __noinline int xdp_slow_path(struct xdp_md *ctx)
{
	struct packet p = { .stage = ROAM_STAGE_XDP, .ifindex = ctx->ingress_ifindex };
	struct roam_config *cfg = config_get();
	struct roam_cpu *cpu = cpu_get();
	__u32 reason;
	__u16 owner;
	int action;

	if (!cfg || !cpu)
		return XDP_PASS;
	reason = parse(ctx, &p);
	if (reason == UNDECIDED)
		reason = listener_find(&p) ? judge(ctx, ROAM_STAGE_XDP, cfg, cpu, &p, &owner) :
					    ROAM_REASON_NOT_LISTENER;
	action = xdp_action(reason);
	/* AF_XDP readers are spared IP options and extension headers. */
	if (reason == ROAM_REASON_MAIN && p.plain)
		action = xdp_main(ctx, &reason);
	record(cpu, &p, reason);
	return action;
}

/* Where the fast path finds things: two shapes of headers, one session. */
struct fast {
	__u64 src[2];
	__u64 dst[2];
	__u64 id[2];
	__u16 sport;
	__u16 dport;
};

/* UDP and the beginning of a DATA packet, as they follow a plain IP header. */
struct data_packet {
	struct udphdr udp;
	__u8 type;
	__u8 counter[7];
	__u64 id[2];
} __attribute__((packed));

/* Is this a DATA packet that fills its IP packet? Then the one length says it all. */
static __always_inline bool fast_data(const struct data_packet *d, __u32 ip_payload, struct fast *f)
{
	if (d->type != ROAM_DATA || bpf_ntohs(d->udp.len) != ip_payload ||
	    ip_payload < sizeof(struct udphdr) + ROAM_DATA_MIN || !d->udp.source)
		return false;
	f->sport = d->udp.source;
	f->dport = d->udp.dest;
	f->id[0] = *(const __u64 *)((const void *)d + 16);
	f->id[1] = *(const __u64 *)((const void *)d + 24);
	return true;
}

static __always_inline bool fast_ipv4(void *data, void *end, struct fast *f)
{
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct data_packet *d = (void *)(ip + 1);
	__u32 total;

	/* checked with the Ethernet header: the one bound check of the fast path */
	if ((void *)(d + 1) > end)
		return false;
	total = bpf_ntohs(ip->tot_len);
	if (*(__u8 *)ip != 0x45 || ip->protocol != IPPROTO_UDP || ip->frag_off & FRAGMENT_BITS ||
	    (void *)ip + total > end)
		return false;
	f->src[0] = 0;
	f->src[1] = IPV4_MAPPED_LOW(ip->saddr);
	f->dst[0] = 0;
	f->dst[1] = IPV4_MAPPED_LOW(ip->daddr);
	return fast_data(d, total - sizeof(*ip), f);
}

static __always_inline bool fast_ipv6(void *data, void *end, struct fast *f)
{
	struct ipv6hdr *ip = data + sizeof(struct ethhdr);
	struct data_packet *d = (void *)(ip + 1);
	__u32 payload;

	if ((void *)(d + 1) > end)
		return false;
	payload = bpf_ntohs(ip->payload_len);
	if (*(__u8 *)ip >> 4 != 6 || ip->nexthdr != IPPROTO_UDP || (void *)&d->udp + payload > end)
		return false;
	__builtin_memcpy(f->src, &ip->saddr, sizeof(f->src));
	__builtin_memcpy(f->dst, &ip->daddr, sizeof(f->dst));
	return !is_ipv4_mapped(f->src[0], f->src[1]) && fast_data(d, payload, f);
}

/* An XDP action, or FAST_PATH_DECLINED with nothing counted and nothing changed. */
static __always_inline int xdp_fast_path(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct roam_config *cfg;
	struct roam_cpu *cpu;
	struct roam_slot *slot;
	struct fast f;
	__u32 reason;
	int action;

	if ((void *)(eth + 1) > end)
		return FAST_PATH_DECLINED;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		if (!fast_ipv4(data, end, &f))
			return FAST_PATH_DECLINED;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		if (!fast_ipv6(data, end, &f))
			return FAST_PATH_DECLINED;
	} else {
		return FAST_PATH_DECLINED;
	}
	if (!f.dport || !listener_at(listener_hash(f.dst[0], f.dst[1], f.dport), f.dst[0], f.dst[1], f.dport))
		return FAST_PATH_DECLINED;
	cfg = config_get();
	cpu = cpu_get();
	if (!cfg || !cpu)
		return FAST_PATH_DECLINED;
	if (unlikely(!id_is_ours(cfg, f.id[0], f.id[1]))) {
		__u64 *forged = &cpu->packets[ROAM_STAGE_XDP][ROAM_REASON_ID_FORGED];

		if (event_sampled(ROAM_REASON_ID_FORGED, *forged)) /* this one is shown */
			return FAST_PATH_DECLINED;
		++*forged;
		return XDP_DROP;
	}
	slot = slot_find(cfg, f.id[0], f.id[1], ROAM_KIND_ROAM);
	if (unlikely(!slot || slot_policed(slot->control) || !slot_path_matches(slot, f.src[0], f.src[1], f.sport)))
		return FAST_PATH_DECLINED;
	action = xdp_main(ctx, &reason);
	count(cpu, ROAM_STAGE_XDP, reason);
	return action;
}

#endif
