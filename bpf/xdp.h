/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The XDP stage. The slow path is complete: every packet can take it. The fast
 * path takes what comes most, or what floods are made of, in plain packets:
 * established sessions, made-up ids, INITs. It leaves the rest without having
 * counted or changed anything.
 */
#ifndef ROAM_XDP_H
#define ROAM_XDP_H

#include "event.h"
#include "judge.h"
#include "listener.h"
#include "parse.h"
#include "trace.h"

/*
 * Set when the program is loaded, for each interface: the verifier removes the
 * redirect where the mode has no AF_XDP sockets (11 ns), and the interface's
 * place in xsks costs nothing.
 */
volatile const bool xsk_enabled = false;
volatile const __u32 xsk_interface = 0;

/* What a path returns instead of an action, beside PATH_DECLINED. */
#define PATH_INIT (-2)	   /* an INIT to one of our listeners: xdp_init_path's; nothing is counted or changed */

static __always_inline int xdp_action(__u32 reason)
{
	if (reason == ROAM_REASON_RETRY)
		return XDP_TX;
	return is_drop(reason) ? XDP_DROP : XDP_PASS;
}

/*
 * fe80::/10. Such a source is one only together with the interface that it came
 * by, which may be a bridge or a VLAN on this one: the stack alone knows.
 */
static __always_inline bool is_link_local(__u64 src0)
{
	return ((__u16)src0 & bpf_htons(0xffc0)) == bpf_htons(0xfe80);
}

/*
 * A main-lane packet to the AF_XDP socket of its queue, or to the stack where
 * there is none: bpf_redirect_map returns the action in its flags then.
 */
static __always_inline int xdp_main(struct xdp_md *ctx, __u64 src0, __u32 *reason)
{
	__u32 queue = ctx->rx_queue_index;
	int action;

	*reason = ROAM_REASON_MAIN;
	if (!xsk_enabled || queue >= ROAM_XSK_QUEUES || is_link_local(src0))
		return XDP_PASS;
	action = bpf_redirect_map(&xsks, xsk_interface * ROAM_XSK_QUEUES + queue, XDP_PASS);
	if (action == XDP_REDIRECT)
		*reason = ROAM_REASON_MAIN_XSK;
	return action;
}

/* Counts the verdict and carries it out. */
static __always_inline int xdp_finish(struct xdp_md *ctx, struct roam_cpu *cpu, struct packet *p, __u32 reason)
{
	int action = xdp_action(reason);

	/* AF_XDP readers are spared IP options and extension headers. */
	if (reason == ROAM_REASON_MAIN && p->plain)
		action = xdp_main(ctx, p->src[0], &reason);
	if (event_sampled(reason, count(cpu, ROAM_STAGE_XDP, reason))) {
		p->ifindex = ctx->ingress_ifindex;
		event_send(cpu, p, reason);
	}
	if (unlikely(p->traced)) {
		p->ifindex = ctx->ingress_ifindex;
		trace_frame(ctx, p, reason);
	}
	return action;
}

/* What the fast path reads of a packet: it stays in registers. */
struct fast {
	__u64 src[2];
	__u64 dst[2];
	__u64 id[2];
	__u16 sport;
	__u16 dport;
	__u16 length; /* of the UDP payload */
	__u8 type;
	bool ipv6;
};

/* Does the datagram fill its IP packet? Then one length says it all. */
static __always_inline bool fast_udp(const struct data_packet *d, __u32 ip_payload, struct fast *f)
{
	if (bpf_ntohs(d->udp.len) != ip_payload || ip_payload < sizeof(struct udphdr) + ROAM_DATA_MIN ||
	    !d->udp.source)
		return false;
	f->sport = d->udp.source;
	f->dport = d->udp.dest;
	f->length = ip_payload - sizeof(struct udphdr);
	f->type = d->type;
	f->id[0] = d->id[0];
	f->id[1] = d->id[1];
	return true;
}

/* One bound check for all headers, Ethernet's among them. */
static __always_inline bool fast_ipv4(void *data, void *end, struct fast *f)
{
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct data_packet *d = (void *)(ip + 1);
	__u32 total;

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
	f->ipv6 = false;
	return fast_udp(d, total - sizeof(*ip), f);
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
	ipv6_words(f->src, &ip->saddr);
	ipv6_words(f->dst, &ip->daddr);
	f->ipv6 = true;
	return !is_ipv4_mapped(f->src[0], f->src[1]) && fast_udp(d, payload, f);
}

static __always_inline bool fast_headers(struct xdp_md *ctx, struct fast *f)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__be16 proto;

	if (data + sizeof(struct ethhdr) > end)
		return false;
	proto = ethernet_proto(data);
	if (proto == bpf_htons(ETH_P_IP))
		return fast_ipv4(data, end, f);
	return proto == bpf_htons(ETH_P_IPV6) && fast_ipv6(data, end, f);
}

/* Plain headers, which most packets have, need no parser. */
static __always_inline bool plain_headers(struct xdp_md *ctx, struct packet *p)
{
	struct fast f;

	if (!fast_headers(ctx, &f))
		return false;
	p->src[0] = f.src[0];
	p->src[1] = f.src[1];
	p->dst[0] = f.dst[0];
	p->dst[1] = f.dst[1];
	p->sport = f.sport;
	p->dport = f.dport;
	p->length = f.length;
	p->ipv6 = f.ipv6;
	p->plain = true;
	p->network = sizeof(struct ethhdr);
	p->payload = sizeof(struct ethhdr) + sizeof(struct udphdr) +
		     (f.ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	return true;
}

/*
 * An INIT to one of our listeners, found by either path. It reads the headers
 * again: one copy of this code, and no struct packet in a frame where every DATA
 * packet would pay for it. Global, as parse() is.
 */
__noinline int xdp_init_path(struct xdp_md *ctx)
{
	struct packet p = { .stage = ROAM_STAGE_XDP };
	struct roam_config *cfg = config_get();
	struct roam_cpu *cpu = cpu_get();

	if (!cfg || !cpu || (!plain_headers(ctx, &p) && parse(ctx, &p) != UNDECIDED))
		return XDP_PASS;
	return xdp_finish(ctx, cpu, &p, xdp_init(ctx, cfg, cpu, &p));
}

/* An XDP action, or PATH_INIT. Global, as parse() is. */
__noinline int xdp_slow_path(struct xdp_md *ctx)
{
	struct packet p = { .stage = ROAM_STAGE_XDP };
	struct roam_config *cfg = config_get();
	struct roam_cpu *cpu = cpu_get();
	__u32 reason;
	__u16 owner;

	if (!cfg || !cpu)
		return XDP_PASS;
	reason = parse(ctx, &p);
	if (reason == UNDECIDED) {
		if (!listener_find(p.dst[0], p.dst[1], p.dport, p.stage)) {
			reason = ROAM_REASON_NOT_LISTENER;
		} else {
			reason = judge(ctx, ROAM_STAGE_XDP, cfg, cpu, &p, &owner);
			if (reason == UNDECIDED)
				return PATH_INIT;
		}
	}
	return xdp_finish(ctx, cpu, &p, reason);
}

/* A DATA packet: an established session's, or one with a made-up id. */
static __always_inline int fast_data(struct xdp_md *ctx, const struct roam_config *cfg, struct roam_cpu *cpu,
				     const struct fast *f)
{
	struct roam_slot *slot;
	__u32 reason;
	int action;

	if (unlikely(!id_is_ours(cfg, f->id[0], f->id[1]))) {
		__u64 *forged = &cpu->packets[ROAM_STAGE_XDP][ROAM_REASON_ID_FORGED];

		if (event_sampled(ROAM_REASON_ID_FORGED, *forged)) /* this one is shown */
			return PATH_DECLINED;
		++*forged;
		return XDP_DROP;
	}
	slot = slot_find(cfg, f->id[0], f->id[1], ROAM_KIND_ROAM);
	if (unlikely(!slot || slot_flags(slot->control) || !slot_path_matches(slot, f->src[0], f->src[1], f->sport)))
		return PATH_DECLINED;
	action = xdp_main(ctx, f->src[0], &reason);
	count(cpu, ROAM_STAGE_XDP, reason);
	return action;
}

static __always_inline int fast_packet(struct xdp_md *ctx, const struct fast *f)
{
	struct roam_config *cfg;
	struct roam_cpu *cpu;

	if (!f->dport ||
	    !listener_at(listener_hash(f->dst[0], f->dst[1], f->dport), f->dst[0], f->dst[1], f->dport))
		return PATH_DECLINED;
	cfg = config_get();
	cpu = cpu_get();
	if (!cfg || !cpu)
		return PATH_DECLINED;
	if (likely(f->type == ROAM_DATA))
		return fast_data(ctx, cfg, cpu, f);
	return f->type == ROAM_INIT ? PATH_INIT : PATH_DECLINED;
}

/*
 * An XDP action, PATH_INIT or PATH_DECLINED. The two families do not come
 * together before the end: half of an IPv4 address is constant, and every offset is.
 */
static __always_inline int xdp_fast_path(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__be16 proto;
	struct fast f;

	if (data + sizeof(struct ethhdr) > end)
		return PATH_DECLINED;
	proto = ethernet_proto(data);
	if (proto == bpf_htons(ETH_P_IP))
		return fast_ipv4(data, end, &f) ? fast_packet(ctx, &f) : PATH_DECLINED;
	if (proto == bpf_htons(ETH_P_IPV6))
		return fast_ipv6(data, end, &f) ? fast_packet(ctx, &f) : PATH_DECLINED;
	return PATH_DECLINED;
}

#endif
