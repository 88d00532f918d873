/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * SipHash (Aumasson, Bernstein: "SipHash: a fast short-input PRF"), unrolled
 * over words that the caller holds in registers: 1-3 for the tag of an id,
 * where 32 bits of it are compared, and 2-4 for mac1 and the cookie.
 */
#ifndef ROAM_SIPHASH_H
#define ROAM_SIPHASH_H

#include "common.h"

struct sip {
	__u64 v0, v1, v2, v3;
};

/* A key of zeros is none. */
static __always_inline bool sip_key_set(const struct roam_sipkey *key)
{
	return key->k0 | key->k1;
}

static __always_inline __u64 rotl(__u64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static __always_inline void sip_init(struct sip *s, const struct roam_sipkey *key)
{
	__u64 k0 = key->k0, k1 = key->k1;

	s->v0 = k0 ^ 0x736f6d6570736575ULL;
	s->v1 = k1 ^ 0x646f72616e646f6dULL;
	s->v2 = k0 ^ 0x6c7967656e657261ULL;
	s->v3 = k1 ^ 0x7465646279746573ULL;
}

/* In the first round no input reaches these two: it can be done once for a key. */
static __always_inline void sip_round_begin(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v0 = rotl(s->v0, 32);
}

static __always_inline void sip_round_end(struct sip *s)
{
	s->v2 += s->v3;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v2 = rotl(s->v2, 32);
}

static __always_inline void sip_round(struct sip *s)
{
	sip_round_begin(s);
	sip_round_end(s);
}

/* The last word carries the input's length in its top byte. */
#define SIP_LAST(bytes, word) ((__u64)(bytes) << 56 | (word))

/* Key and first word. */
static __always_inline void sip13_begin(struct sip *s, const struct roam_id_key *key, __u64 word)
{
	s->v0 = key->v0;
	s->v1 = key->v1;
	s->v2 = key->v2;
	s->v3 = key->v3 ^ word;
	sip_round_end(s);
	s->v0 ^= word;
}

static __always_inline void sip13_word(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

static __always_inline __u64 sip13_end(struct sip *s)
{
	s->v2 ^= 0xff;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

static __always_inline void sip24_word(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

static __always_inline __u64 sip24_end(struct sip *s)
{
	s->v2 ^= 0xff;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

#endif
