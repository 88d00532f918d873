//go:build ignore
/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The data plane's fast path with another way to find the session: the product's
 * slot table, a BPF hash map with the same 16-byte ids as keys and the same values,
 * one load of the slot's first word and then always the first slot, which is the least
 * that any table of that size can cost; or none at all, which is what the others are net
 * of. Or with the slot table and no tag in the ids: what is made up is found out by looking.
 */
#include "session.h"

enum variant { VARIANT_SLOT, VARIANT_HASH, VARIANT_LOAD, VARIANT_NONE, VARIANT_UNTAGGED };

volatile const __u32 variant = VARIANT_SLOT;

struct variant_id {
	__u64 word[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct variant_id);
	__type(value, struct roam_slot);
} hash SEC(".maps");

static __always_inline struct roam_slot *variant_find(const struct roam_config *cfg, __u64 id0, __u64 id1, __u8 kind)
{
	struct variant_id id = { { id0, id1 } };
	__u32 index = (__u32)id0 & cfg->slot_mask;
	struct roam_slot *slot;
	__u32 zero = 0;

	if (variant == VARIANT_HASH)
		return bpf_map_lookup_elem(&hash, &id);
	if (variant == VARIANT_LOAD) {
		slot = bpf_map_lookup_elem(&slots, &index);
		if (!slot || READ_ONCE(slot->id[0]) != id0)
			return NULL;
	}
	if (variant == VARIANT_LOAD || variant == VARIANT_NONE)
		return bpf_map_lookup_elem(&slots, &zero);
	return slot_find(cfg, id0, id1, kind);
}

#define slot_find variant_find
#define id_is_ours(cfg, id0, id1) (variant == VARIANT_UNTAGGED || id_is_ours(cfg, id0, id1))
#include "xdp.h"

SEC("xdp")
int variant_xdp(struct xdp_md *ctx)
{
	int action = xdp_fast_path(ctx);

	if (variant == VARIANT_UNTAGGED && action == PATH_DECLINED)
		return XDP_DROP; /* not in the table */
	return action >= 0 ? action : XDP_ABORTED; /* declined: the benchmark must notice */
}

char _license[] SEC("license") = "Dual BSD/GPL";
