//go:build ignore
/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The data plane: brings every packet to the right socket, and decides nothing.
 * Unauthenticated bytes change counters and token buckets and nothing else; an
 * address is written to a slot by the control plane alone.
 */
#include "xdp.h"
#include "socket.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Types that no map mentions: BTF keeps, and Go gets, only what something is made of. */
static const struct {
	enum roam_stage *stage;
	enum roam_verdict *verdict;
	enum roam_lane *lane;
	enum roam_reason *reason;
	enum roam_kind *kind;
	enum roam_slot_flag *slot_flag;
	enum roam_listener_flag *listener_flag;
	enum roam_cookie_policy *cookie_policy;
	struct roam_event event;
	struct roam_trace trace;
} types_for_btf __attribute__((used));

SEC("xdp")
int roam_xdp(struct xdp_md *ctx)
{
	int action = xdp_fast_path(ctx);

	if (unlikely(action == PATH_DECLINED))
		action = xdp_slow_path(ctx);
	return unlikely(action == PATH_INIT) ? xdp_init_path(ctx) : action;
}

SEC("sk_reuseport")
int roam_socket(struct sk_reuseport_md *ctx)
{
	return socket_path(ctx);
}
