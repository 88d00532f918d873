/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The time, read from the kernel once a jiffy for each CPU: bpf_jiffies64 is
 * a load, reading the clock and dividing it costs some 27 ns. A jiffy (1-10 ms)
 * is fine enough for buckets and cookies, and its length need not be known.
 */
#ifndef ROAM_CLOCK_H
#define ROAM_CLOCK_H

#include "common.h"

/* A tick of the buckets is 2^20 ns, so that no division is needed. */
#define TICK_SHIFT 20
#define TICKS_PER_SECOND 954ULL

static __noinline int clock_refresh(struct roam_clock *clock, __u64 jiffies)
{
	__u64 ns;

	if (!clock)
		return 0;
	ns = bpf_ktime_get_coarse_ns();
	clock->ticks = ns >> TICK_SHIFT;
	clock->seconds = ns / 1000000000;
	clock->jiffies = jiffies;
	return 0;
}

static __always_inline struct roam_clock *clock_get(struct roam_cpu *cpu)
{
	__u64 jiffies = bpf_jiffies64();

	if (unlikely(cpu->clock.jiffies != jiffies))
		clock_refresh(&cpu->clock, jiffies);
	return &cpu->clock;
}

/* As the cookie has it: Unix time by a clock that never steps. */
static __always_inline __u32 clock_unix(struct roam_cpu *cpu, const struct roam_config *cfg)
{
	return (__u32)clock_get(cpu)->seconds + cfg->unix_base;
}

#endif
