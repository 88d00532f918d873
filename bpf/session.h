/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * From an id to its session: the tag, the slot, the path, the lane.
 *
 * The server chose every id, so an id names its own slot: one array access and
 * one compare. Its last word is a tag under a secret key, checked before memory
 * is touched: a flood of made-up ids costs a hash in registers at any size of the
 * table.
 */
#ifndef ROAM_SESSION_H
#define ROAM_SESSION_H

#include "bucket.h"
#include "maps.h"
#include "siphash.h"

/* Word 0 of an id: slot word 0-27, generation of the key 28-29. */
#define ID_GENERATION_SHIFT 28

#define SLOT_KIND_SHIFT 16
#define SLOT_FLAGS_SHIFT 24

static __always_inline __u16 slot_owner(__u64 control)
{
	return control;
}

static __always_inline __u8 slot_kind(__u64 control)
{
	return control >> SLOT_KIND_SHIFT;
}

static __always_inline __u8 slot_flags(__u64 control)
{
	return control >> SLOT_FLAGS_SHIFT;
}

/* Is the id one that this server's key made? A generation without a key made none. */
static __always_inline bool id_is_ours(const struct roam_config *cfg, __u64 id0, __u64 id1)
{
	const struct roam_id_key *key = &cfg->id_keys[(__u32)id0 >> ID_GENERATION_SHIFT & (ROAM_ID_KEYS - 1)];
	struct sip s;

	if (unlikely(!(key->v2 | key->v3)))
		return false;
	sip13_begin(&s, key, id0);
	sip13_word(&s, SIP_LAST(12, (__u32)id1));
	return (__u32)(id1 >> 32) == ((__u32)sip13_end(&s) ^ cfg->server_id);
}

/* The slot that holds exactly this id for this kind of session, or NULL. */
static __always_inline struct roam_slot *slot_find(const struct roam_config *cfg, __u64 id0, __u64 id1, __u8 kind)
{
	__u32 index = (__u32)id0 & cfg->slot_mask;
	struct roam_slot *slot = bpf_map_lookup_elem(&slots, &index);

	if (unlikely(!slot))
		return NULL;
	if ((READ_ONCE(slot->id[0]) ^ id0) | (READ_ONCE(slot->id[1]) ^ id1))
		return NULL;
	return slot_kind(slot->control) == kind ? slot : NULL;
}

/* Does the packet come from the address that the control plane has validated? */
static __always_inline bool slot_path_matches(const struct roam_slot *slot, __u64 src0, __u64 src1, __u16 sport)
{
	return !((slot->addr[0] ^ src0) | (slot->addr[1] ^ src1) | (slot->port ^ sport));
}

/*
 * The candidate lane. This CPU's bucket is looked at first, so that a flood
 * beyond it does not pull the slot's line to and fro, and charged last, so that a
 * flood on one id spends no more of it than its slot lets through.
 */
static __always_inline __u32 candidate_lane(const struct roam_config *cfg, struct roam_cpu *cpu, __u32 stage,
					    struct roam_slot *slot)
{
	const struct roam_limits *limits = &cfg->limits;
	__u64 next = stage_bucket_next(cpu, cpu->candidate, stage, limits->candidate_rate, limits->candidate_burst);

	if (!next)
		return ROAM_REASON_CANDIDATE_LIMIT;
	if (!slot_bucket_take(slot, cpu, stage, limits))
		return ROAM_REASON_CANDIDATE_LIMIT;
	cpu->candidate[stage == ROAM_STAGE_SOCKET].tat = next;
	return ROAM_REASON_CANDIDATE;
}

static __always_inline __u32 main_lane(const struct roam_config *cfg, struct roam_cpu *cpu, __u32 stage,
				       struct roam_slot *slot)
{
	if (unlikely(slot_flags(slot->control) & ROAM_SLOT_POLICE) && !slot_bucket_take(slot, cpu, stage, &cfg->limits))
		return ROAM_REASON_MAIN_LIMIT;
	return ROAM_REASON_MAIN;
}

/* An id that this server made and that names no session now: the peer may want a stateless reset. */
static __always_inline __u32 reset_lane(const struct roam_config *cfg, struct roam_cpu *cpu, __u32 stage)
{
	if (!stage_bucket_take(cpu, cpu->reset, stage, cfg->limits.reset_rate, cfg->limits.reset_burst))
		return ROAM_REASON_RESET_LIMIT;
	return ROAM_REASON_RESET;
}

/* A ROAM packet with an id: its reason, and the owner of its session where there is one. */
static __always_inline __u32 session_judge(const struct roam_config *cfg, struct roam_cpu *cpu,
					   struct packet *p, __u16 *owner)
{
	struct roam_slot *slot;

	if (!id_is_ours(cfg, p->id[0], p->id[1]))
		return ROAM_REASON_ID_FORGED;
	slot = slot_find(cfg, p->id[0], p->id[1], ROAM_KIND_ROAM);
	if (!slot)
		return reset_lane(cfg, cpu, p->stage);
	*owner = slot_owner(slot->control);
	p->traced = slot_flags(slot->control) & ROAM_SLOT_TRACE;
	if (slot_path_matches(slot, p->src[0], p->src[1], p->sport))
		return main_lane(cfg, cpu, p->stage, slot);
	return candidate_lane(cfg, cpu, p->stage, slot);
}

/*
 * A QUIC or DTLS packet with an id: to the owner of its session, or as a new
 * connection. Only a destination id that a client may have drawn itself
 * (may_be_new) is allowed to be none of ours.
 */
static __always_inline __u32 foreign_judge(const struct roam_config *cfg, struct roam_cpu *cpu,
					   const struct packet *p, __u8 kind, __u32 reason, bool may_be_new,
					   __u16 *owner)
{
	struct roam_slot *slot;
	__u32 seconds;

	if (!id_is_ours(cfg, p->id[0], p->id[1]))
		return may_be_new ? reason : ROAM_REASON_ID_FORGED;
	slot = slot_find(cfg, p->id[0], p->id[1], kind);
	if (!slot)
		return reason;
	*owner = slot_owner(slot->control);
	/* These sessions live in their own library; this is how the control plane sees that one is idle. */
	seconds = clock_get(cpu)->seconds;
	if (slot->seen != seconds)
		WRITE_ONCE(slot->seen, seconds);
	return reason;
}

#endif
