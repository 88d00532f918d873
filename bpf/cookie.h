/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * INIT: mac1 says that the sender knows the server's public key, the cookie
 * that it receives at its source address. Both are checked here before userspace
 * spends anything. The formulas are PROTOCOL.md's; Go has the same in handshake/.
 */
#ifndef ROAM_COOKIE_H
#define ROAM_COOKIE_H

#include "bucket.h"
#include "dissect.h"
#include "siphash.h"

#define ROAM_VERSION_1 1
#define COOKIE_FORMAT 1
#define COOKIE_EPOCH_SECONDS 60
#define COOKIE_AGE_MAX 10
#define COOKIE_AHEAD_MAX 2 /* another edge's clock */

/* Bytes 0..79 of an INIT: in the packet (XDP) or copied (socket stage). */
struct init {
	__u64 head; /* type, three zero bytes, version */
	__u64 handshake_id[2];
	__u64 cookie[2];
	__u64 mac1;
	__u64 ephemeral[4];
};

/* mac1 covers bytes 4..23 and 48..79: words that straddle the struct's by 4 bytes. */
static __always_inline __u64 straddle(__u64 low, __u64 high)
{
	return low >> 32 | high << 32;
}

static __always_inline __u64 mac1_hash(const struct init *in, const struct roam_sipkey *key)
{
	struct sip s;

	sip_init(&s, key);
	sip24_word(&s, straddle(in->head, in->handshake_id[0]));
	sip24_word(&s, straddle(in->handshake_id[0], in->handshake_id[1]));
	sip24_word(&s, straddle(in->handshake_id[1], in->ephemeral[0]));
	sip24_word(&s, straddle(in->ephemeral[0], in->ephemeral[1]));
	sip24_word(&s, straddle(in->ephemeral[1], in->ephemeral[2]));
	sip24_word(&s, straddle(in->ephemeral[2], in->ephemeral[3]));
	sip24_word(&s, SIP_LAST(52, in->ephemeral[3] >> 32));
	return sip24_end(&s);
}

/* Only while the server's key is being rotated, so not worth the room inline. */
static __noinline __u64 mac1_hash_other(const struct init *in, const struct roam_sipkey *key)
{
	return mac1_hash(in, key);
}

static __always_inline bool mac1_valid(const struct roam_config *cfg, const struct init *in)
{
	const struct roam_sipkey *keys = cfg->mac1_keys;

	_Static_assert(ROAM_MAX_MAC1_KEYS == 2, "one branch for each");
	if (likely(sip_key_set(&keys[0]) && mac1_hash(in, &keys[0]) == in->mac1))
		return true;
	return sip_key_set(&keys[1]) && mac1_hash_other(in, &keys[1]) == in->mac1;
}

/* A cookie's hash runs over the handshake id, the cookie's first word and the addresses. */
static __always_inline __u64 cookie_hash(const struct packet *p, const struct init *in, __u64 head,
					 const struct roam_sipkey *key)
{
	struct sip s;

	sip_init(&s, key);
	sip24_word(&s, in->handshake_id[0]);
	sip24_word(&s, in->handshake_id[1]);
	sip24_word(&s, head);
	sip24_word(&s, p->src[0]);
	sip24_word(&s, p->src[1]);
	sip24_word(&s, p->dst[0]);
	sip24_word(&s, p->dst[1]);
	sip24_word(&s, SIP_LAST(60, p->sport | (__u32)p->dport << 16));
	return sip24_end(&s);
}

/* The first word of a cookie: format, key id, server id, time, in the order of its bytes. */
static __always_inline __u64 cookie_head(__u8 key_id, __u16 server_id, __u32 time)
{
	return COOKIE_FORMAT | (__u64)key_id << 8 | (__u64)bpf_htons(server_id) << 16 | (__u64)bpf_htonl(time) << 32;
}

/* The key for cookies made at a time, or NULL if the control plane has not given it. */
static __always_inline const struct roam_cookie_key *cookie_key(const struct roam_config *cfg, __u32 time)
{
	__u32 epoch = time / COOKIE_EPOCH_SECONDS;
	const struct roam_cookie_key *key = &cfg->cookie_keys[epoch % ROAM_COOKIE_KEYS];

	return key->epoch == epoch && epoch ? key : NULL;
}

/* A cookie that is wrong in any way is no cookie. */
static __always_inline bool cookie_valid(const struct roam_config *cfg, struct roam_cpu *cpu, const struct packet *p,
					 const struct init *in)
{
	__u64 head = in->cookie[0];
	__u32 time = bpf_ntohl(head >> 32);
	const struct roam_cookie_key *key;

	if (!(head | in->cookie[1]))
		return false;
	if (clock_unix(cpu, cfg) - time + COOKIE_AHEAD_MAX > COOKIE_AGE_MAX + COOKIE_AHEAD_MAX)
		return false;
	key = cookie_key(cfg, time);
	if (!key || head != cookie_head(key->epoch, cfg->server_id, time))
		return false;
	return cookie_hash(p, in, head, &key->key) == in->cookie[1];
}

/*
 * Must this INIT without a valid cookie bring one? At the socket stage behind
 * XDP the bucket has been charged already.
 */
static __always_inline bool cookie_demanded(const struct roam_config *cfg, struct roam_cpu *cpu, __u32 stage)
{
	__u64 next;

	if (cfg->cookie_policy != ROAM_COOKIE_AUTO)
		return cfg->cookie_policy == ROAM_COOKIE_ALWAYS;
	if (!stage_polices(cfg, stage))
		return false;
	next = bucket_next(cpu->uncookied.tat, clock_get(cpu)->ticks, cfg->limits.uncookied_rate,
			   cfg->limits.uncookied_burst);
	if (!next)
		return true;
	cpu->uncookied.tat = next;
	return false;
}

/* INITs that Go answers without any state have a bucket of their own: they must not starve those with a cookie. */
static __always_inline __u32 init_stateless(const struct roam_config *cfg, struct roam_cpu *cpu, __u32 stage,
					    __u32 reason)
{
	if (!stage_bucket_take(cpu, cpu->version, stage, cfg->limits.version_rate, cfg->limits.version_burst))
		return ROAM_REASON_VERSION_LIMIT;
	return reason;
}

/*
 * Judges an INIT of the right length. RETRY: a cookie is demanded; the caller
 * gives one, or makes it INIT_SLOW where it cannot.
 */
static __always_inline __u32 init_judge(const struct roam_config *cfg, struct roam_cpu *cpu, const struct packet *p,
					const struct init *in)
{
	__u32 version = bpf_ntohl(in->head >> 32);
	__u32 reason;

	if ((__u32)in->head != ROAM_INIT || !version)
		return ROAM_REASON_INIT_MALFORMED;
	if (version != ROAM_VERSION_1)
		return init_stateless(cfg, cpu, p->stage, ROAM_REASON_INIT_VERSION);
	if (!mac1_valid(cfg, in))
		return ROAM_REASON_MAC1;
	if (cookie_valid(cfg, cpu, p, in))
		reason = ROAM_REASON_INIT_COOKIE;
	else if (cookie_demanded(cfg, cpu, p->stage))
		return ROAM_REASON_RETRY;
	else
		reason = ROAM_REASON_INIT;
	if (!stage_bucket_take(cpu, cpu->handshake, p->stage, cfg->limits.handshake_rate, cfg->limits.handshake_burst))
		return ROAM_REASON_HANDSHAKE_LIMIT;
	return reason;
}

#endif
