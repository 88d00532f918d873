/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Which destinations are ours. An entry lies in any one of the
 * ROAM_LISTENER_PROBES places from listener_hash() on (modulo the table), and a
 * search looks at all of them: removing an entry is zeroing its port, adding
 * one is filling a free place, and nothing else ever moves. The hash is the one
 * thing here that Go repeats: maps/listeners.go.
 */
#ifndef ROAM_LISTENER_H
#define ROAM_LISTENER_H

#include "maps.h"

static __always_inline __u32 listener_hash(__u64 addr0, __u64 addr1, __u16 port)
{
	_Static_assert(ROAM_MAX_LISTENERS == 256, "the top 8 bits of the product");
	return (addr0 ^ addr1 ^ port) * 0x9e3779b97f4a7c15ULL >> 56;
}

static __always_inline const struct roam_listener *listener_at(__u32 place, __u64 addr0, __u64 addr1, __u16 port)
{
	const struct roam_listener *l = bpf_map_lookup_elem(&listeners, &place);

	if (!l || (l->addr[0] ^ addr0) | (l->addr[1] ^ addr1) | (l->port ^ port))
		return NULL;
	return l;
}

static __always_inline const struct roam_listener *listener_search(__u64 addr0, __u64 addr1, __u16 port)
{
	__u32 place = listener_hash(addr0, addr1, port);

	for (int i = 0; i < ROAM_LISTENER_PROBES; i++) {
		const struct roam_listener *l = listener_at((place + i) % ROAM_MAX_LISTENERS, addr0, addr1, port);

		if (l)
			return l;
	}
	return NULL;
}

/* The listener that a destination is, or NULL. */
static __noinline const struct roam_listener *listener_find(__u64 addr0, __u64 addr1, __u16 port, __u8 stage)
{
	const struct roam_listener *l;

	if (!port) /* a free entry has port zero */
		return NULL;
	l = listener_search(addr0, addr1, port);
	if (l)
		return l;
	l = listener_search(0, 0, port);
	if (l && stage == ROAM_STAGE_XDP && !(l->flags & ROAM_LISTENER_EVERYWHERE))
		return NULL;
	return l;
}

#endif
