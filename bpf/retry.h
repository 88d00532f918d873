/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * RETRY, made of the INIT in place and sent back by XDP_TX. Type, version and
 * handshake id are already where RETRY has them: 40 bytes for 1200.
 */
#ifndef ROAM_RETRY_H
#define ROAM_RETRY_H

#include "cookie.h"
#include "parse.h"

#define RETRY_LEN 40
#define RETRY_UDP_LEN (sizeof(struct udphdr) + RETRY_LEN)
#define RETRY_TTL 64
/* Ethernet and two VLAN tags are 22 bytes. A mask, because Linux 6.1 forgets a bound that it has only compared. */
#define NETWORK_MASK 31
#define IPV4_DONT_FRAGMENT bpf_htons(0x4000)
/* Type, three zero bytes, version. */
#define RETRY_HEAD (ROAM_RETRY | (__u64)bpf_htonl(ROAM_VERSION_1) << 32)

struct retry {
	__u64 head;
	__u64 handshake_id[2];
	__u64 cookie[2];
};

/* Sums for the ones' complement checksum, folded at the end. Byte order does not matter to it. */
static __always_inline __u64 sum_word(__u64 sum, __u64 word)
{
	return sum + (__u32)word + (word >> 32);
}

static __always_inline __u16 sum_fold(__u64 sum)
{
	sum = (__u32)sum + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline bool ipv4_unicast(__u64 mapped)
{
	__u8 octet = mapped >> 32;

	return octet && octet < 224;
}

static __always_inline bool ipv6_unicast(const __u64 *addr)
{
	return (addr[0] | addr[1]) && (__u8)addr[0] != 0xff;
}

/* Answering a spoofed group address would send one packet to many. */
static __always_inline bool addresses_unicast(const struct packet *p)
{
	if (p->ipv6)
		return ipv6_unicast(p->src) && ipv6_unicast(p->dst);
	return ipv4_unicast(p->src[1]) && ipv4_unicast(p->dst[1]);
}

static __always_inline bool mac_unicast(const __u8 *mac)
{
	return !(mac[0] & 1);
}

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u16 *mac = (__u16 *)eth;

	for (int i = 0; i < ETH_ALEN / 2; i++) {
		__u16 dest = mac[i];

		mac[i] = mac[i + ETH_ALEN / 2];
		mac[i + ETH_ALEN / 2] = dest;
	}
}

/* Writes the header of the answer; returns the sum of its addresses for the pseudo header. */
static __always_inline __u64 retry_ipv4(struct iphdr *ip, const struct packet *p)
{
	__u32 src = p->dst[1] >> 32, dst = p->src[1] >> 32;
	__u64 sum = (__u64)src + dst;
	__u16 total = bpf_htons(sizeof(*ip) + RETRY_UDP_LEN);

	ip->tos = 0;
	ip->tot_len = total;
	ip->id = 0;
	ip->frag_off = IPV4_DONT_FRAGMENT;
	ip->ttl = RETRY_TTL;
	ip->saddr = src;
	ip->daddr = dst;
	ip->check = sum_fold(sum + bpf_htons(0x4500) + total + IPV4_DONT_FRAGMENT +
			     bpf_htons(RETRY_TTL << 8 | IPPROTO_UDP));
	return sum;
}

static __always_inline __u64 retry_ipv6(struct ipv6hdr *ip, const struct packet *p)
{
	*(__be32 *)ip = bpf_htonl(6 << 28); /* no traffic class, no flow label */
	ip->payload_len = bpf_htons(RETRY_UDP_LEN);
	ip->hop_limit = RETRY_TTL;
	__builtin_memcpy(&ip->saddr, p->dst, sizeof(p->dst));
	__builtin_memcpy(&ip->daddr, p->src, sizeof(p->src));
	return sum_word(sum_word(sum_word(sum_word(0, p->src[0]), p->src[1]), p->dst[0]), p->dst[1]);
}

static __always_inline void retry_udp(struct udphdr *udp, const struct packet *p, const __u64 *cookie, __u64 sum)
{
	struct retry *r = (void *)(udp + 1);
	__u16 check;

	udp->source = p->dport;
	udp->dest = p->sport;
	udp->len = bpf_htons(RETRY_UDP_LEN);
	r->head = RETRY_HEAD;
	r->cookie[0] = cookie[0];
	r->cookie[1] = cookie[1];
	/* The length counts twice: in the pseudo header and in the UDP header. */
	sum += 2 * bpf_htons(RETRY_UDP_LEN) + bpf_htons(IPPROTO_UDP) + (__u64)p->sport + p->dport;
	sum = sum_word(sum, r->head);
	sum = sum_word(sum_word(sum, r->handshake_id[0]), r->handshake_id[1]);
	sum = sum_word(sum_word(sum, r->cookie[0]), r->cookie[1]);
	check = sum_fold(sum);
	udp->check = check ? check : 0xffff; /* zero means none */
}

/* RETRY, or RETRY_FAILED: nobody can be answered, or the frame cannot shrink. */
static __always_inline __u32 retry_send(struct xdp_md *ctx, const struct packet *p, const __u64 *cookie)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 ip_len = p->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__u32 network = p->network & NETWORK_MASK;
	struct ethhdr *eth = data;
	__u32 want = network + ip_len + RETRY_UDP_LEN;
	__u64 sum;
	void *ip;

	if ((void *)(eth + 1) > end || network != p->network)
		return ROAM_REASON_RETRY_FAILED;
	if (!mac_unicast(eth->h_source) || !mac_unicast(eth->h_dest) || !addresses_unicast(p))
		return ROAM_REASON_RETRY_FAILED;
	swap_macs(eth);
	if (bpf_xdp_adjust_tail(ctx, (int)want - (int)BYTES_BETWEEN(data, end)))
		return ROAM_REASON_RETRY_FAILED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	ip = data + network;
	if (p->ipv6) {
		if (ip + sizeof(struct ipv6hdr) + RETRY_UDP_LEN > end)
			return ROAM_REASON_RETRY_FAILED;
		sum = retry_ipv6(ip, p);
		retry_udp(ip + sizeof(struct ipv6hdr), p, cookie, sum);
	} else {
		if (ip + sizeof(struct iphdr) + RETRY_UDP_LEN > end)
			return ROAM_REASON_RETRY_FAILED;
		sum = retry_ipv4(ip, p);
		retry_udp(ip + sizeof(struct iphdr), p, cookie, sum);
	}
	return ROAM_REASON_RETRY;
}

/* Answers an INIT of which a cookie is demanded; what XDP cannot answer goes to Go. */
static __always_inline __u32 retry_answer(struct xdp_md *ctx, const struct roam_config *cfg, struct roam_cpu *cpu,
					  const struct packet *p, const struct init *in)
{
	__u32 now = clock_unix(cpu, cfg);
	const struct roam_cookie_key *key = cookie_key(cfg, now);
	__u64 cookie[2];

	if (!p->plain || !key)
		return init_stateless(cfg, cpu, p->stage, ROAM_REASON_INIT_SLOW);
	cookie[0] = cookie_head(key->epoch, cfg->server_id, now);
	cookie[1] = cookie_hash(p, in, cookie[0], &key->key);
	return retry_send(ctx, p, cookie);
}

#endif
