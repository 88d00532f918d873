//go:build ignore
/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Runs a program under test again and again over one frame: puts the frame
 * right first, since a test run does not, and gives it another id, since one id
 * would hide every cache miss. Ids are computed, not read from a list, which would
 * compete with the session table for the cache. Or it plays a recording: frames that
 * differ, one after another, each once. The loader puts the program under
 * test in the place of target(); the stubs below are what the same harness costs
 * with next to nothing in that place.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "siphash.h"

#define FRAME_BYTES 128
#define FRAME_MAX 1500
#define RETRY_FRAME 82 /* Ethernet, IPv4, UDP and RETRY */
#define RECORD_BYTES 1532 /* a frame and its length: 24 cache lines */

struct harness_record {
	__u32 length;
	__u8 bytes[RECORD_BYTES];
};

struct harness_frame {
	__u8 bytes[FRAME_BYTES];
};

struct harness_config {
	__u32 length;	/* of the frame, where the program changes it */
	__u32 id_at;	/* where the id goes; 0: the frame keeps its own */
	__u32 id_mask;	/* number of ids - 1, a power of two */
	__u32 restore;	/* the program writes to the frame */
	__u32 verdict;	/* to return instead of the program's; 0: the program's own */
	__u32 forge;	/* XORed to the ids' tags */
	__u32 next;	/* record to play */
	__u32 records;	/* that there are; 0: none is played */
	__u32 cpu;	/* that harness_cpumap redirects to */
	__u64 random;	/* state of the generator of ids: not zero */
	struct roam_sipkey key; /* that the ids' tags are made with */
	__u64 verdicts[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct harness_frame);
} harness_frames SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct harness_config);
} harness_configs SEC(".maps");

/* Sized by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct harness_record);
} harness_records SEC(".maps");

static __always_inline struct harness_config *harness_config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&harness_configs, &zero);
}

/* One entry a CPU; the measurement fills in those that frames are to go to. */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} harness_cpus SEC(".maps");

#define COPY(at) (*(volatile __u64 *)(data + (at)) = *(const __u64 *)(frame->bytes + (at)))

/*
 * Eight bytes at a time, and so that no field that a program loads lies across
 * two stores: such a load waits for both to reach the cache, 10 ns that no
 * frame from a network card costs.
 */
static __always_inline bool harness_restore(struct xdp_md *ctx, const struct harness_config *c)
{
	const struct harness_frame *frame;
	__u32 zero = 0;
	__u64 length;
	void *data;

	length = (__u64)ctx->data_end - (__u64)ctx->data;
	asm volatile("" : "+r"(length));
	if (length != c->length && bpf_xdp_adjust_tail(ctx, (int)c->length - (int)length))
		return false;
	frame = bpf_map_lookup_elem(&harness_frames, &zero);
	data = (void *)(long)ctx->data;
	if (!frame || data + FRAME_BYTES > (void *)(long)ctx->data_end)
		return false;
	COPY(0); COPY(6); COPY(14); COPY(22); COPY(30); COPY(34);
	COPY(42); COPY(50); COPY(58); COPY(66); COPY(74); COPY(82); COPY(90); COPY(98); COPY(106); COPY(114);
	return true;
}

/* SplitMix64's finalizer. */
static __always_inline __u64 mix(__u64 z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* The id of the session in a slot: table.go fills the table with the same. Key generation 0. */
static __always_inline void harness_id(__u64 *id, const struct harness_config *c, __u32 slot)
{
	struct sip s;

	id[0] = (mix(slot) & ~(3ULL << 28 | c->id_mask)) | slot;
	id[1] = (__u32)mix(~(__u64)slot);
	sip_init(&s, &c->key);
	sip13_word(&s, id[0]);
	sip13_word(&s, SIP_LAST(12, id[1]));
	id[1] |= (sip13_end(&s) ^ c->forge) << 32;
}

/* xorshift64: the low bits of one step to the next are far apart. */
static __always_inline __u32 harness_random(struct harness_config *c)
{
	__u64 x = c->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	c->random = x;
	return x >> 20;
}

static __always_inline bool harness_give_id(struct xdp_md *ctx, struct harness_config *c)
{
	void *data = (void *)(long)ctx->data, *at;
	__u64 id[2];

	if (c->id_at > FRAME_MAX)
		return false;
	at = data + c->id_at;
	if (at + sizeof(id) > (void *)(long)ctx->data_end)
		return false;
	harness_id(id, c, harness_random(c) & c->id_mask);
	*(volatile __u64 *)at = id[0];
	*(volatile __u64 *)(at + 8) = id[1];
	return true;
}

/* Makes the frame the next of the recording. After the last one the first comes again. */
static __always_inline bool harness_play(struct xdp_md *ctx, struct harness_config *c)
{
	const struct harness_record *r;
	__u64 length, now;
	__u32 i = c->next;

	r = bpf_map_lookup_elem(&harness_records, &i);
	if (!r)
		return false;
	c->next = i + 1 < c->records ? i + 1 : 0;
	length = r->length;
	now = (__u64)ctx->data_end - (__u64)ctx->data;
	asm volatile("" : "+r"(now));
	if (now != length && bpf_xdp_adjust_tail(ctx, (int)length - (int)now))
		return false;
	asm volatile("" : "+r"(length));
	if (length < 1 || length > RECORD_BYTES)
		return false;
	return !bpf_xdp_store_bytes(ctx, 0, (void *)r->bytes, length);
}

static __always_inline bool harness_prepare(struct xdp_md *ctx)
{
	struct harness_config *c = harness_config_get();

	if (!c)
		return false;
	if (c->records)
		return harness_play(ctx, c);
	if (c->restore && !harness_restore(ctx, c))
		return false;
	return !c->id_at || harness_give_id(ctx, c);
}

static __always_inline int harness_finish(__u32 verdict)
{
	struct harness_config *c = harness_config_get();

	if (!c)
		return XDP_ABORTED;
	/* The compiler knows what the stubs return and would drop the mask; the verifier does not. */
	asm volatile("" : "+r"(verdict));
	c->verdicts[verdict & 7]++;
	return c->verdict ? c->verdict : verdict;
}

/* Replaced by the program under test; adjust_tail tells the verifier that packet pointers do not outlive it. */
__attribute__((noinline)) int target(struct xdp_md *ctx)
{
	volatile int verdict = XDP_PASS;

	if (!ctx)
		return XDP_ABORTED;
	bpf_xdp_adjust_tail(ctx, 0);
	return verdict;
}

__attribute__((noinline)) int stub_return(struct xdp_md *ctx)
{
	volatile int verdict = XDP_DROP;

	return ctx ? verdict : XDP_ABORTED;
}

__attribute__((noinline)) int stub_shrink(struct xdp_md *ctx)
{
	__u64 length;

	if (!ctx)
		return XDP_ABORTED;
	length = (__u64)ctx->data_end - (__u64)ctx->data;
	asm volatile("" : "+r"(length));
	return bpf_xdp_adjust_tail(ctx, RETRY_FRAME - (int)length) ? XDP_ABORTED : XDP_TX;
}

SEC("xdp")
int harness(struct xdp_md *ctx)
{
	return harness_prepare(ctx) ? harness_finish(target(ctx)) : XDP_ABORTED;
}

SEC("xdp")
int harness_return(struct xdp_md *ctx)
{
	return harness_prepare(ctx) ? harness_finish(stub_return(ctx)) : XDP_ABORTED;
}

SEC("xdp")
int harness_shrink(struct xdp_md *ctx)
{
	return harness_prepare(ctx) ? harness_finish(stub_shrink(ctx)) : XDP_ABORTED;
}

/* What a driver does with a frame that nobody looks at: to the kernel's stack. */
__attribute__((noinline)) int stub_pass(struct xdp_md *ctx)
{
	volatile int verdict = XDP_PASS;

	return ctx ? verdict : XDP_ABORTED;
}

SEC("xdp")
int harness_pass(struct xdp_md *ctx)
{
	return harness_prepare(ctx) ? harness_finish(stub_pass(ctx)) : XDP_ABORTED;
}

/* What comes after is another CPU's. */
__attribute__((noinline)) int stub_cpumap(struct xdp_md *ctx)
{
	struct harness_config *c = harness_config_get();

	return ctx && c ? bpf_redirect_map(&harness_cpus, c->cpu, XDP_DROP) : XDP_ABORTED;
}

SEC("xdp")
int harness_cpumap(struct xdp_md *ctx)
{
	return harness_prepare(ctx) ? harness_finish(stub_cpumap(ctx)) : XDP_ABORTED;
}

/* Without the harness: what the generator of live frames costs by itself. */
SEC("xdp")
int bare_drop(struct xdp_md *ctx)
{
	return ctx ? XDP_DROP : XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
