/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Token buckets as GCRA (ITU-T I.371): one word, the theoretical arrival time
 * of the next packet. Time is counted in ticks x rate, where each packet costs
 * one second's worth of ticks: the rate stays a whole number, nothing is
 * divided, and a refusal writes nothing. Rates up to 2^24 a second.
 */
#ifndef ROAM_BUCKET_H
#define ROAM_BUCKET_H

#include "clock.h"

/*
 * The bucket's next value, or 0 if the packet does not conform.
 *
 * A value further ahead than the bucket can get (beyond twice its depth and
 * any disagreement of two CPUs' clocks) was written under another rate: the
 * bucket counts as full rather than shut for as long as the rates differ.
 */
static __always_inline __u64 bucket_next(__u64 tat, __u64 ticks, __u32 rate, __u32 burst)
{
	__u64 now = ticks * rate;
	__u64 depth = burst * TICKS_PER_SECOND;
	__u64 ahead = tat - now;

	if ((__s64)ahead < 0 || ahead > 2 * depth + 32ULL * rate)
		ahead = 0;
	ahead += TICKS_PER_SECOND;
	return ahead > depth ? 0 : now + ahead;
}

/*
 * Each stage has buckets of its own and always charges them: XDP sees neither
 * fragments nor interfaces that it is not attached to. The socket stage allows
 * twice the rate of XDP: what one CPU let through may reach the sockets bunched
 * and by other CPUs, and is not to be refused again.
 */
static __always_inline __u64 stage_bucket_next(struct roam_cpu *cpu, const struct roam_bucket *buckets, __u32 stage,
					       __u32 rate, __u32 burst)
{
	__u32 scale = stage == ROAM_STAGE_SOCKET;

	return bucket_next(buckets[scale].tat, clock_get(cpu)->ticks, rate << scale, burst << scale);
}

/* Takes a token of this CPU's bucket for the stage. */
static __always_inline bool stage_bucket_take(struct roam_cpu *cpu, struct roam_bucket *buckets, __u32 stage,
					      __u32 rate, __u32 burst)
{
	__u64 next = stage_bucket_next(cpu, buckets, stage, rate, burst);

	if (!next)
		return false;
	buckets[stage == ROAM_STAGE_SOCKET].tat = next;
	return true;
}

/*
 * Takes a token of a slot's bucket for the stage, which all CPUs share. Losing
 * the exchange to another CPU counts as a refusal: it happens only under a
 * flood on this id.
 */
static __always_inline bool slot_bucket_take(struct roam_slot *slot, struct roam_cpu *cpu, __u32 stage,
					     const struct roam_limits *limits)
{
	__u32 scale = stage == ROAM_STAGE_SOCKET;
	__u64 *bucket = &slot->bucket[scale];
	__u64 tat = READ_ONCE(*bucket);
	__u64 next = bucket_next(tat, clock_get(cpu)->ticks, limits->slot_candidate_rate << scale,
				 limits->slot_candidate_burst << scale);

	return next && __sync_val_compare_and_swap(bucket, tat, next) == tat;
}

#endif
