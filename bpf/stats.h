/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Exact counters: each packet once for each stage, by the reason of its verdict. */
#ifndef ROAM_STATS_H
#define ROAM_STATS_H

#include "maps.h"

/* Reasons from here on are drops: the enum groups them so that the verdict needs no table. */
#define FIRST_DROP ROAM_REASON_SHORT

static __always_inline bool is_drop(__u32 reason)
{
	return reason >= FIRST_DROP;
}

/* Returns how many there were before. */
static __always_inline __u64 count(struct roam_cpu *cpu, __u32 stage, __u32 reason)
{
	__u64 *n, before;

	/* The compiler knows every reason there is and would drop the mask; the verifier does not. */
	if (!__builtin_constant_p(reason))
		asm volatile("" : "+r"(reason));
	n = &cpu->packets[stage == ROAM_STAGE_SOCKET][reason & (ROAM_REASON_MAX - 1)];
	before = *n;
	*n = before + 1;
	return before;
}

#endif
