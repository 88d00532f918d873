/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The socket stage: picks the socket of a reuseport group, for what XDP passed,
 * for datagrams that the stack has put together, and for interfaces without XDP.
 *
 * The context's data starts at the UDP header and may end right after it (paged
 * skb), so the payload is read by helper, the addresses relative to the IP header.
 * With UDP_GRO this runs once for a train of packets of one flow, on its first
 * one. The sockets judge the rest again; but a train goes where its first packet
 * goes, so whoever can spoof a flow can have its packets dropped with his own,
 * where no XDP has sorted them out before.
 *
 * As in XDP the slow path is complete, and the fast path leaves what is not its
 * own without having counted or changed anything.
 */
#ifndef ROAM_SOCKET_H
#define ROAM_SOCKET_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "event.h"
#include "judge.h"
#include "listener.h"
#include "trace.h"

/* False only if the stack has handed over something that is not UDP over IP. */
static __always_inline bool socket_parse(struct sk_reuseport_md *ctx, struct packet *p)
{
	__u32 ipv4[2];
	struct udphdr udp;

	if (bpf_skb_load_bytes(ctx, 0, &udp, sizeof(udp)))
		return false;
	p->sport = udp.source;
	p->dport = udp.dest;
	p->payload = sizeof(udp);
	p->length = ctx->len - sizeof(udp);
	if (ctx->eth_protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes_relative(ctx, offsetof(struct iphdr, saddr), ipv4, sizeof(ipv4),
						BPF_HDR_START_NET))
			return false;
		p->src[1] = IPV4_MAPPED_LOW(ipv4[0]);
		p->dst[1] = IPV4_MAPPED_LOW(ipv4[1]);
		return true;
	}
	p->ipv6 = true;
	return !bpf_skb_load_bytes_relative(ctx, offsetof(struct ipv6hdr, saddr), p->src, sizeof(p->src),
					    BPF_HDR_START_NET) &&
	       !bpf_skb_load_bytes_relative(ctx, offsetof(struct ipv6hdr, daddr), p->dst, sizeof(p->dst),
					    BPF_HDR_START_NET);
}

static __always_inline __u16 reason_lane(__u32 reason)
{
	switch (reason) {
	case ROAM_REASON_MAIN:
		return ROAM_LANE_MAIN;
	case ROAM_REASON_CANDIDATE:
		return ROAM_LANE_CANDIDATE;
	case ROAM_REASON_QUIC:
	case ROAM_REASON_DTLS:
		return ROAM_LANE_FOREIGN;
	default:
		return ROAM_LANE_HANDSHAKE;
	}
}

/* The kernel refuses an index that is empty or holds a socket of another group. */
static __always_inline bool lane_select(struct sk_reuseport_md *ctx, const struct roam_listener *l, __u16 owner,
					__u16 lane)
{
	__u32 index = (l->index * ROAM_MAX_WORKERS + owner) * ROAM_MAX_LANES + lane;

	return !bpf_sk_select_reuseport(ctx, &sockets, &index, 0);
}

/*
 * Selects the lane's socket. Without one any other does, since any worker can
 * open any packet: the handshake socket, then whichever the kernel's hash
 * chooses. Only QUIC and DTLS nobody there speaks.
 */
static __always_inline __u32 socket_select(struct sk_reuseport_md *ctx, const struct roam_listener *l, __u32 reason,
					   __u16 owner)
{
	__u16 lane = reason_lane(reason);

	if (l && lane_select(ctx, l, owner, lane))
		return reason;
	if (lane == ROAM_LANE_FOREIGN)
		return ROAM_REASON_FOREIGN_UNSERVED;
	if (l)
		lane_select(ctx, l, 0, ROAM_LANE_HANDSHAKE);
	return ROAM_REASON_UNSTEERED;
}

/*
 * The kernel answers SK_DROP with ICMP port unreachable, as if nobody listened:
 * an answer larger than its trigger, and one that tells right ids from wrong
 * ones. A sink, a socket that lets nothing in, drops in silence.
 */
static __always_inline int socket_drop(struct sk_reuseport_md *ctx, const struct roam_listener *l)
{
	return l && lane_select(ctx, l, 0, ROAM_LANE_SINK) ? SK_PASS : SK_DROP;
}

/* Nobody's first byte XDP leaves to the stack; here it has come to a socket of ours. */
static __always_inline bool socket_drops(__u32 reason)
{
	return is_drop(reason) || reason == ROAM_REASON_UNKNOWN_PROTOCOL;
}

static __noinline int socket_slow_path(struct sk_reuseport_md *ctx)
{
	struct packet p = { .stage = ROAM_STAGE_SOCKET };
	struct roam_config *cfg = config_get();
	struct roam_cpu *cpu = cpu_get();
	const struct roam_listener *l;
	__u16 owner = 0;
	__u32 reason;

	if (!cfg || !cpu)
		return SK_PASS;
	reason = ROAM_REASON_SHORT;
	if (socket_parse(ctx, &p))
		reason = judge(ctx, ROAM_STAGE_SOCKET, cfg, cpu, &p, &owner);
	l = listener_find(p.dst[0], p.dst[1], p.dport, p.stage);
	if (!socket_drops(reason))
		reason = socket_select(ctx, l, reason, owner);
	if (event_sampled(reason, count(cpu, ROAM_STAGE_SOCKET, reason)))
		event_send(cpu, &p, reason);
	if (unlikely(p.traced))
		trace_skb(ctx, cpu, &p, reason);
	return socket_drops(reason) ? socket_drop(ctx, l) : SK_PASS;
}

/* What the fast path reads of a packet: by no more than two helpers, and one where it does not lie in pages. */
struct fast_datagram {
	struct data_packet data;
	__u64 src[2];
	__u64 dst[2];
};

static __always_inline bool fast_read(struct sk_reuseport_md *ctx, struct fast_datagram *f)
{
	void *data = (void *)(long)ctx->data;
	__u32 ipv4[2];

	if (data + sizeof(f->data) <= (void *)(long)ctx->data_end)
		f->data = *(struct data_packet *)data;
	else if (bpf_skb_load_bytes(ctx, 0, &f->data, sizeof(f->data)))
		return false;
	if (f->data.type != ROAM_DATA || ctx->len < sizeof(struct udphdr) + ROAM_DATA_MIN || !f->data.udp.source)
		return false;
	if (ctx->eth_protocol != bpf_htons(ETH_P_IP))
		return !bpf_skb_load_bytes_relative(ctx, offsetof(struct ipv6hdr, saddr), f->src,
						    sizeof(f->src) + sizeof(f->dst), BPF_HDR_START_NET);
	if (bpf_skb_load_bytes_relative(ctx, offsetof(struct iphdr, saddr), ipv4, sizeof(ipv4), BPF_HDR_START_NET))
		return false;
	f->src[0] = 0;
	f->src[1] = IPV4_MAPPED_LOW(ipv4[0]);
	f->dst[0] = 0;
	f->dst[1] = IPV4_MAPPED_LOW(ipv4[1]);
	return true;
}

/* Inline where the listener lies at its first place, as nearly all do. */
static __always_inline const struct roam_listener *fast_listener(const struct fast_datagram *f)
{
	__u16 port = f->data.udp.dest;
	const struct roam_listener *l;

	l = port ? listener_at(listener_hash(f->dst[0], f->dst[1], port), f->dst[0], f->dst[1], port) : NULL;
	return l ? l : listener_find(f->dst[0], f->dst[1], port, ROAM_STAGE_SOCKET);
}

/* A DATA packet: an established session's, or one with a made-up id. */
static __always_inline int socket_fast_path(struct sk_reuseport_md *ctx)
{
	const struct roam_listener *l;
	struct fast_datagram f;
	struct roam_config *cfg;
	struct roam_slot *slot;
	struct roam_cpu *cpu;

	if (!fast_read(ctx, &f))
		return PATH_DECLINED;
	cfg = config_get();
	cpu = cpu_get();
	l = fast_listener(&f);
	if (!cfg || !cpu || !l)
		return PATH_DECLINED;
	if (unlikely(!id_is_ours(cfg, f.data.id[0], f.data.id[1]))) {
		__u64 *forged = &cpu->packets[ROAM_STAGE_SOCKET][ROAM_REASON_ID_FORGED];

		if (event_sampled(ROAM_REASON_ID_FORGED, *forged)) /* this one is shown */
			return PATH_DECLINED;
		++*forged;
		return socket_drop(ctx, l);
	}
	slot = slot_find(cfg, f.data.id[0], f.data.id[1], ROAM_KIND_ROAM);
	if (unlikely(!slot || slot_flags(slot->control) ||
		     !slot_path_matches(slot, f.src[0], f.src[1], f.data.udp.source)))
		return PATH_DECLINED;
	if (unlikely(!lane_select(ctx, l, slot_owner(slot->control), ROAM_LANE_MAIN)))
		return PATH_DECLINED;
	count(cpu, ROAM_STAGE_SOCKET, ROAM_REASON_MAIN);
	return SK_PASS;
}

static __always_inline int socket_path(struct sk_reuseport_md *ctx)
{
	int verdict = socket_fast_path(ctx);

	return unlikely(verdict == PATH_DECLINED) ? socket_slow_path(ctx) : verdict;
}

#endif
