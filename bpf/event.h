/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Events: a hint for people, never a fact to act on. Candidates are offered
 * each, floods (drops, RETRY) as a sample of each reason on each CPU; then one
 * bucket for each CPU limits them all, so that no flood can buy the reader's time.
 */
#ifndef ROAM_EVENT_H
#define ROAM_EVENT_H

#include "bucket.h"
#include "stats.h"

/* One of so many packets of a reason, beginning with the first. A power of two. */
#define EVENT_SAMPLE 64

static __always_inline void event_fill(struct roam_event *event, const struct packet *p, __u32 reason)
{
	event->ktime = bpf_ktime_get_ns();
	event->id[0] = p->id[0];
	event->id[1] = p->id[1];
	event->src[0] = p->src[0];
	event->src[1] = p->src[1];
	event->dst[0] = p->dst[0];
	event->dst[1] = p->dst[1];
	event->sport = p->sport;
	event->dport = p->dport;
	event->stage = p->stage;
	event->reason = reason;
	event->length = p->length;
	event->ifindex = p->ifindex;
	event->pad = 0;
}

static __noinline int event_send(struct roam_cpu *cpu, const struct packet *p, __u32 reason)
{
	struct roam_config *cfg = config_get();
	struct roam_event *event;
	__u64 next;

	if (!cfg || !cpu || !p)
		return 0;
	next = bucket_next(cpu->event.tat, clock_get(cpu)->ticks, cfg->limits.event_rate, cfg->limits.event_burst);
	if (!next)
		return 0;
	cpu->event.tat = next;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		cpu->events_lost++;
		return 0;
	}
	event_fill(event, p, reason);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

static __always_inline bool event_sampled(__u32 reason, __u64 before)
{
	if (reason == ROAM_REASON_CANDIDATE)
		return true;
	return (is_drop(reason) || reason == ROAM_REASON_RETRY) && !(before & (EVENT_SAMPLE - 1));
}

#endif
