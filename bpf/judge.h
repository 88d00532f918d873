/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * A datagram to one of our listeners: what it is, and its reason. One text for
 * both programs; the stage is a constant where it is used, so that each is
 * left with its own helpers.
 */
#ifndef ROAM_JUDGE_H
#define ROAM_JUDGE_H

#include "cookie.h"
#include "dissect.h"
#include "retry.h"
#include "session.h"

/* XDP reads an INIT in the frame and answers there. */
static __always_inline __u32 xdp_init(struct xdp_md *ctx, const struct roam_config *cfg, struct roam_cpu *cpu,
				      const struct packet *p)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 at = p->payload;
	struct init *in;
	__u32 reason;

	if (at > HEADERS_MAX + sizeof(struct udphdr))
		return ROAM_REASON_INIT_MALFORMED;
	in = data + at;
	if (p->length != ROAM_INIT_LEN || (void *)(in + 1) > end)
		return ROAM_REASON_INIT_MALFORMED;
	reason = init_judge(cfg, cpu, p, in);
	if (reason != ROAM_REASON_RETRY)
		return reason;
	return retry_answer(ctx, cfg, cpu, p, in);
}

/* With UDP_GRO the length may be that of a train: the socket judges the exact one. */
static __noinline __u32 socket_init(struct sk_reuseport_md *ctx, struct roam_cpu *cpu, const struct packet *p)
{
	struct roam_config *cfg = config_get();
	struct init in;
	__u32 reason;

	if (!cfg || !cpu || p->length < ROAM_INIT_LEN || bpf_skb_load_bytes(ctx, sizeof(struct udphdr), &in, sizeof(in)))
		return ROAM_REASON_INIT_MALFORMED;
	reason = init_judge(cfg, cpu, p, &in);
	if (reason == ROAM_REASON_RETRY)
		return init_stateless(cfg, cpu, p->stage, ROAM_REASON_INIT_SLOW);
	return reason;
}

/* Copies a byte or an id from the payload. XDP has its own way: the helper costs more than all else here. */
static __always_inline bool payload_read(void *ctx, __u32 stage, const struct packet *p, __u32 at, void *to, __u32 len)
{
	struct xdp_md *xdp = ctx;
	void *from;

	at += p->payload;
	if (stage == ROAM_STAGE_SOCKET)
		return !bpf_skb_load_bytes(ctx, at, to, len);
	if (at > HEADERS_MAX + 64)
		return false;
	from = (void *)(long)xdp->data + at;
	if (from + len > (void *)(long)xdp->data_end)
		return false;
	if (len == 1) {
		*(__u8 *)to = *(__u8 *)from;
	} else {
		((__u64 *)to)[0] = ((__u64 *)from)[0];
		((__u64 *)to)[1] = ((__u64 *)from)[1];
	}
	return true;
}

/* Reads the id that d says is there; has_id is left false where a QUIC client chose one of another length. */
static __always_inline __u32 read_id(void *ctx, __u32 stage, struct packet *p, const struct dissection *d,
				     bool *has_id)
{
	__u8 dcid_len;

	if (d->dcid) {
		if (!payload_read(ctx, stage, p, QUIC_LONG_DCID_LEN_AT, &dcid_len, sizeof(dcid_len)))
			return ROAM_REASON_SHORT;
		if (dcid_len != ROAM_ID_LEN)
			return UNDECIDED;
	}
	if (p->length < d->id_at + ROAM_ID_LEN || !payload_read(ctx, stage, p, d->id_at, p->id, sizeof(p->id)))
		return ROAM_REASON_SHORT;
	*has_id = true;
	return UNDECIDED;
}

/* UNDECIDED: an INIT in XDP, which has a path of its own. */
static __always_inline __u32 judge(void *ctx, __u32 stage, const struct roam_config *cfg, struct roam_cpu *cpu,
				   struct packet *p, __u16 *owner)
{
	struct dissection d;
	bool has_id = false;
	__u32 reason;
	__u8 first;

	if (p->short_udp || !p->length || !payload_read(ctx, stage, p, 0, &first, sizeof(first)))
		return ROAM_REASON_SHORT;
	if (!p->sport)
		return ROAM_REASON_SOURCE_PORT_ZERO;
	d = dissect(first);
	if (d.kind == ROAM_KIND_NONE)
		return d.reason;
	if (p->length < d.minimum)
		return ROAM_REASON_SHORT;
	if (d.reason == ROAM_REASON_INIT)
		return stage == ROAM_STAGE_XDP ? UNDECIDED : socket_init(ctx, cpu, p);
	if (!d.id_at)
		return d.reason;
	reason = read_id(ctx, stage, p, &d, &has_id);
	if (reason != UNDECIDED)
		return reason;
	if (!has_id)
		return d.reason;
	if (d.kind == ROAM_KIND_ROAM)
		return session_judge(cfg, cpu, p, owner);
	return foreign_judge(cfg, cpu, p, d.kind, d.reason, d.dcid, owner);
}

#endif
